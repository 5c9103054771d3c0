//! CPU, memory and file descriptors of this process, from `/proc/self`.

/// A reading; values that cannot be read are 0.
pub struct Process {
    /// User and system time.
    pub cpu_seconds: f64,
    /// Resident set.
    pub resident_bytes: u64,
    /// File descriptors.
    pub open_fds: u64,
}

impl Process {
    /// Reads the current values.
    pub fn read() -> Self {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The command name, in parentheses, may contain spaces; the fields after it do not.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let number = |at: usize| fields.get(at).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        Process {
            cpu_seconds: (number(11) + number(12)) as f64 / ticks,
            resident_bytes: number(21) * rustix::param::page_size() as u64,
            open_fds: std::fs::read_dir("/proc/self/fd").map_or(0, |dir| dir.count()) as u64,
        }
    }
}
