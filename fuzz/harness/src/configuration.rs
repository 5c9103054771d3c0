//! The configuration file.

/// Most bytes of an input: the time to read YAML grows with the number of its keys.
const MAX: usize = 1 << 14;

/// The text of a configuration file.
pub fn configuration(data: &[u8]) {
    // A reference to a file would make the input depend on the machine.
    let is_closed =
        !data.windows(6).any(|bytes| bytes == b"${file") && !data.windows(5).any(|bytes| bytes == b"_file");
    if is_closed
        && data.len() <= MAX
        && let Ok(text) = std::str::from_utf8(data)
    {
        let _ = dichroic::check_configuration(text);
    }
}
