// SPDX-License-Identifier: GPL-2.0-or-later
//! DPDK's environment: started once per process, with its output caught.

use std::ffi::{CStr, CString, c_char};
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dpdk_sys as dpdk;
use log::Level;

use crate::sys;

/// How the environment is set up.
#[derive(Clone, Debug, Default)]
pub struct EalConfig {
    /// Buffers come from huge pages.
    pub huge: bool,
    /// MiB of buffers, for ordinary pages: they are taken at the start.
    pub memory_mib: usize,
    /// The processor that DPDK calls its main one. Reactors are registered besides.
    pub processor: usize,
    /// PCI addresses of the devices to be used; no others are touched.
    pub pci: Vec<String>,
    /// More arguments, which come last and so win.
    pub arguments: Vec<String>,
}

impl EalConfig {
    fn arguments(&self) -> Vec<String> {
        let mut list: Vec<String> = ["ptgt", "-l"].map(str::to_owned).into();
        list.push(self.processor.to_string());
        let mut add = |words: &[&str]| list.extend(words.iter().map(|&word| word.to_owned()));
        add(&["--no-telemetry", "--log-level=lib.eal:6"]);
        match self.huge {
            true => add(&["--in-memory"]),
            // DPDK refuses --in-memory with ordinary pages; without shared configuration there are no files either.
            false => add(&["--no-huge", "--no-shconf", "-m", &self.memory_mib.to_string()]),
        }
        if self.pci.is_empty() {
            add(&["--no-pci"]);
            if self.huge {
                // Nothing but processors reads the buffers, so that physical addresses are of no use.
                add(&["--iova-mode=va"]);
            }
        }
        for address in &self.pci {
            add(&["-a", address]);
        }
        list.extend(self.arguments.iter().cloned());
        list
    }
}

static STARTED: AtomicBool = AtomicBool::new(false);

/// Complaints of DPDK that are kept for the error that follows them.
const COMPLAINTS_MAX: usize = 4;

/// The last complaints of DPDK: the first of a row tells what is the matter, the others who has given up because of
/// that.
static COMPLAINTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The environment or a device is being started, with the output caught: what it logs goes to stderr, too, a line at a
/// time with its level in front, so that all of it gets out in order if DPDK ends the process.
static STARTING: AtomicBool = AtomicBool::new(false);

/// As in rte_log.h: emergency, alert, critical and error come first; 5 is a warning, 6 a notice, 7 information.
fn level_of(level: u32) -> Level {
    match level {
        ..=5 => Level::Warn,
        6 | 7 => Level::Info,
        _ => Level::Debug,
    }
}

extern "C" fn on_log(level: u32, text: *const c_char, len: usize) {
    // SAFETY: DPDK passes a message of that length, which lives until the function returns.
    let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), len) };
    let text = String::from_utf8_lossy(bytes);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if level <= 4 {
            let mut complaints = COMPLAINTS.lock().unwrap_or_else(PoisonError::into_inner);
            if complaints.len() == COMPLAINTS_MAX {
                complaints.remove(0);
            }
            complaints.push(line.to_owned());
        }
        match STARTING.load(Ordering::Relaxed) {
            true => _ = writeln!(io::stderr(), "<{level}>{line}"),
            false => log::log!(target: "dpdk", level_of(level), "{line}"),
        }
    }
}

/// Makes a call with what is printed and logged meanwhile caught.
fn caught<T>(call: impl FnOnce() -> T) -> io::Result<(T, String)> {
    forget_complaints();
    STARTING.store(true, Ordering::Relaxed);
    let caught = sys::caught_output(call);
    STARTING.store(false, Ordering::Relaxed);
    caught
}

/// Makes a call of which libraries print on their own (libbpf, libxdp), and logs what they do. Before the reactors
/// start.
pub(super) fn logged<T>(call: impl FnOnce() -> T) -> io::Result<T> {
    let (result, said) = caught(call)?;
    log_caught(&said, true);
    Ok(result)
}

/// Logs what was said during a start: what DPDK has logged, and what it has `printed`, which has no level in front.
fn log_caught(said: &str, printed: bool) {
    for line in said.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let logged = line.strip_prefix('<').and_then(|rest| rest.split_once('>'));
        match logged.and_then(|(level, line)| Some((level_of(level.parse().ok()?), line))) {
            Some((level, line)) => log::log!(target: "dpdk", level, "{line}"),
            None if printed => log::info!(target: "dpdk", "{line}"),
            None => {}
        }
    }
}

/// What DPDK has complained about is no reason for what follows.
pub(super) fn forget_complaints() {
    COMPLAINTS.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

/// An error that names what DPDK has complained about.
pub(super) fn error(what: &str, code: i32) -> io::Error {
    // SAFETY: rte_strerror answers any number with a string that stays until the thread asks again.
    let reason = unsafe { CStr::from_ptr(dpdk::rte_strerror(code.abs())) }.to_string_lossy().into_owned();
    let complaints =
        std::mem::take(&mut *COMPLAINTS.lock().unwrap_or_else(PoisonError::into_inner)).join("; ");
    let detail = match code {
        _ if complaints.is_empty() => reason,
        // Not EPERM, but no reason at all.
        -1 => complaints,
        _ => format!("{reason} ({complaints})"),
    };
    io::Error::other(format!("{what}: {detail}"))
}

/// What `rte_errno` says.
pub(super) fn last(what: &str) -> io::Error {
    // SAFETY: a read of a variable of this thread.
    error(what, unsafe { dpdk::ptgt_errno() })
}

/// The running environment; it ends when the last holder lets go of it.
pub struct Eal {
    pub(super) pools: PoolCounts,
}

/// What became of the pools of buffers.
#[derive(Default)]
pub(super) struct PoolCounts {
    /// Those that are there.
    pub(super) open: AtomicUsize,
    /// Buffers that were not returned to those that are not.
    pub(super) lost: AtomicUsize,
}

impl Eal {
    /// Starts the environment. It can be started once in the life of a process (rte_eal_init).
    pub fn start(config: &EalConfig) -> io::Result<Arc<Self>> {
        if STARTED.swap(true, Ordering::SeqCst) {
            return Err(io::Error::other("DPDK can be started once per process only"));
        }
        // SAFETY: the function is called with a message at a time, from any thread, and has no state but a mutex.
        if unsafe { dpdk::ptgt_log_to(Some(on_log)) } != 0 {
            return Err(io::Error::other("DPDK: its log cannot be captured"));
        }
        let arguments = config.arguments();
        log::debug!(target: "dpdk", "starting with {}", arguments[1..].join(" "));
        let strings = arguments.iter().map(|argument| CString::new(argument.as_str()));
        let strings = strings.collect::<Result<Vec<_>, _>>().map_err(io::Error::other)?;
        // DPDK permutes its arguments and keeps them: they are given to it for good.
        let pointers: Vec<*mut c_char> = strings.into_iter().map(CString::into_raw).collect();
        let pointers = pointers.leak();
        let count = i32::try_from(pointers.len()).map_err(io::Error::other)?;
        // It binds the calling thread to its main processor, which new threads would inherit.
        let affinity = sys::affinity()?;
        // SAFETY: `count` strings that nobody else uses.
        let (rc, said) = caught(|| unsafe { dpdk::rte_eal_init(count, pointers.as_mut_ptr()) })?;
        // DPDK prints its usage if it does not like its arguments.
        log_caught(&said, rc >= 0);
        sys::set_affinity(&affinity)?;
        if rc < 0 {
            let unknown = said.lines().find(|line| line.contains("option"));
            let what = format!("DPDK does not start with {}", arguments[1..].join(" "));
            return Err(match unknown {
                Some(line) => {
                    io::Error::other(format!("{what}: {}", line.trim().trim_start_matches("ptgt: ")))
                }
                None => last(&what),
            });
        }
        Ok(Arc::new(Self { pools: PoolCounts::default() }))
    }

    /// Whether all buffers have come home and all pools are closed, when all that had to do with devices has ended.
    pub fn all_home(&self) -> Result<(), String> {
        let [open, lost] = [&self.pools.open, &self.pools.lost].map(|count| count.load(Ordering::Acquire));
        match (open, lost) {
            (0, 0) => Ok(()),
            _ => Err(format!("DPDK: {open} pools are still open, and {lost} buffers were not returned")),
        }
    }

    /// Whether devices use virtual addresses of the process rather than physical ones.
    pub(super) fn virtual_addresses(&self) -> bool {
        // SAFETY: the environment runs.
        unsafe { dpdk::rte_eal_iova_mode() == dpdk::rte_iova_mode::RTE_IOVA_VA }
    }
}

impl Drop for Eal {
    fn drop(&mut self) {
        // SAFETY: nobody holds anything of DPDK's any more: whatever does holds the environment, too.
        unsafe { dpdk::rte_eal_cleanup() };
    }
}

/// A thread that DPDK knows, so that pools keep a cache for it.
pub(super) struct Registered {
    _eal: Arc<Eal>,
    /// Belongs to its thread.
    _here: std::marker::PhantomData<*const ()>,
}

impl Registered {
    pub(super) fn new(eal: &Arc<Eal>) -> io::Result<Self> {
        // SAFETY: the environment runs; a thread that is known already stays so.
        match unsafe { dpdk::rte_thread_register() } {
            0 => Ok(Self { _eal: eal.clone(), _here: std::marker::PhantomData }),
            _ => Err(last("DPDK cannot register another thread")),
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        // SAFETY: called on the thread that was registered.
        unsafe { dpdk::rte_thread_unregister() };
    }
}
