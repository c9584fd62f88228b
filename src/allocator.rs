//! The settings of the C library's allocator.

/// The size of an allocation in bytes from which on it has pages of its own, which go back to the system when it is freed.
#[cfg(target_env = "gnu")]
const OWN_PAGES: libc::c_int = 128 * 1024;

/// Lets large buffers go back to the system when they are freed.
///
/// A tick reads answers of megabytes and then waits for most of a minute. By default glibc raises its limit to the largest buffer that
/// was freed, up to 32 MiB, and from then on keeps such buffers in its heap: with 1,000 rollouts these were a quarter of the memory.
/// It has to be called before there are threads.
#[cfg_attr(
    target_env = "gnu",
    expect(unsafe_code, reason = "the standard library has no interface to the allocator's settings")
)]
pub fn return_large_buffers() {
    #[cfg(target_env = "gnu")]
    for setting in [libc::M_MMAP_THRESHOLD, libc::M_TRIM_THRESHOLD] {
        // SAFETY: `mallopt` takes two numbers and no pointers. An unknown setting or value is refused by its result alone.
        unsafe { libc::mallopt(setting, OWN_PAGES) };
    }
}
