//! The fuzz target that has the name of this program.
#![no_main]

mod functions;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for (name, function) in functions::TARGETS {
        if *name == env!("CARGO_BIN_NAME") {
            function(data);
        }
    }
});
