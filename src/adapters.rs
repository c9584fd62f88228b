//! The world as it really is: each adapter holds its options, its errors and its side of a port. Deleting one is
//! deleting a file and a line here.

pub mod kafka;
pub mod kubernetes;
pub mod memory;
pub mod prometheus;
pub mod registry;
pub mod slack;
