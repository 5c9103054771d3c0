//! `dichroic`: the binary of the collector. Everything is in the library, which fuzz targets and their tests use too.
#![forbid(unsafe_code)]

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    dichroic::main()
}
