//! Says on standard error where the module crashed, before the signal ends the process as it would have without this.
//!
//! What a handler does here is not all async-signal-safe: `dladdr` and the unwinder take locks. The process is lost
//! already, so what can come of it is that it hangs or crashes once more. Against the first there is an alarm, against
//! the second the order: the handler of a thread that crashes within it gives the signal back to the kernel at once.
//!
//! A module that has handlers of its own overrides these.

use crate::ARTIFACT;
use libc::{c_int, c_void, siginfo_t};
use std::ffi::CStr;
use std::fmt::Write as _;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicI32, Ordering};

/// The signals, with their names.
const SIGNALS: [(c_int, &str); 6] = [
    (libc::SIGSEGV, "SIGSEGV"),
    (libc::SIGBUS, "SIGBUS"),
    (libc::SIGILL, "SIGILL"),
    (libc::SIGFPE, "SIGFPE"),
    (libc::SIGABRT, "SIGABRT"),
    (libc::SIGSYS, "SIGSYS"),
];

/// For the words, in seconds.
const PATIENCE: u32 = 1;

/// How far up the stack the module is looked for.
const FRAMES: u8 = 32;

/// Room that the unwinder needs on a stack for signals. Where there is less, only the frame that crashed is known.
const UNWINDER: usize = 48 * 1024;

/// Of a stack for signals of ours.
const SIGNAL_STACK: usize = 64 * 1024;

/// The process that the handlers are of: a child of a fork dies without words.
static PROCESS: AtomicI32 = AtomicI32::new(0);
/// The thread that has the word, and the signal that it died of.
static THREAD: AtomicI32 = AtomicI32::new(0);
static SIGNAL: AtomicI32 = AtomicI32::new(0);

/// Sets the handlers. Before the module is loaded.
pub(crate) fn look_out() {
    PROCESS.store(process(), Ordering::SeqCst);
    // The first call loads the unwinder, which is not for a handler to do.
    let _warm = frames();
    for (signal, _) in SIGNALS {
        // On the stack for signals, as the thread's own may be what has run out. An abort has a good stack under it.
        let flags = if signal == libc::SIGABRT { 0 } else { libc::SA_ONSTACK };
        handle(signal, on_crash as *const () as usize, flags | libc::SA_SIGINFO);
    }
}

/// The stack for signals of a thread that the module runs on, larger than Rust's own, which the drop puts back. Memory is
/// used when it is.
#[derive(Debug)]
pub(crate) struct Stack {
    memory: *mut c_void,
    before: libc::stack_t,
}

impl Stack {
    /// Puts it under the calling thread, which must drop it before it ends. `None`, and no harm, if there is no memory.
    pub(crate) fn new() -> Option<Self> {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: new memory, at a place of the kernel's choice.
        let memory = unsafe { libc::mmap(std::ptr::null_mut(), SIGNAL_STACK, access, kind, -1, 0) };
        if memory == libc::MAP_FAILED {
            return None;
        }
        let stack = libc::stack_t { ss_sp: memory, ss_flags: 0, ss_size: SIGNAL_STACK };
        let mut before =
            libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
        // SAFETY: the memory is as large as is said and stays until the drop, which takes it from the thread first; it
        // fails only for a stack that is too small, or from a handler.
        unsafe { libc::sigaltstack(&raw const stack, &raw mut before) };
        Some(Self { memory, before })
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: what the kernel said of the stack before, which is Rust's and lives as long as the thread.
        unsafe { libc::sigaltstack(&raw const self.before, std::ptr::null_mut()) };
        // SAFETY: mapped by `new`, of this length, and no thread's stack any more: `Stack` is not `Send`.
        unsafe { libc::munmap(self.memory, SIGNAL_STACK) };
    }
}

/// The handler. Returns only to have the kernel end the process by the same signal.
extern "C" fn on_crash(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let thread = thread();
    match THREAD.compare_exchange(0, thread, Ordering::SeqCst, Ordering::SeqCst) {
        Ok(_) => {}
        // A crash within the words: no more of them, and the end is by the first.
        Err(first) if first == thread => return on_alarm(0),
        Err(_) => loop {
            // Another thread has the word, and ends the process.
            // SAFETY: waits for a signal; takes no arguments.
            unsafe { libc::pause() };
        },
    }
    SIGNAL.store(signal, Ordering::SeqCst);
    // SAFETY: the kernel hands a handler with SA_SIGINFO what it knows of the signal.
    let info = unsafe { &*info };
    // Sent by somebody with `kill`, it says nothing about the module.
    if process() == PROCESS.load(Ordering::SeqCst) && info.si_code != libc::SI_USER {
        handle(libc::SIGALRM, on_alarm as *const () as usize, 0);
        unblock(libc::SIGALRM);
        // SAFETY: sets a timer; takes any number.
        unsafe { libc::alarm(PATIENCE) };
        tell(signal, info, context);
    }
    give_back(signal);
}

/// The words take too long: without them, then.
extern "C" fn on_alarm(_: c_int) {
    let signal = SIGNAL.load(Ordering::SeqCst);
    give_back(signal);
    unblock(signal);
}

/// Has the kernel end the process by this signal, once it is no longer blocked: at the return from its handler.
fn give_back(signal: c_int) {
    handle(signal, libc::SIG_DFL, 0);
    // SAFETY: takes any number; the signal goes to this thread.
    unsafe { libc::raise(signal) };
}

fn tell(signal: c_int, info: &siginfo_t, context: *mut c_void) {
    let name = SIGNALS.iter().find(|(known, _)| *known == signal).map_or("a signal", |(_, name)| name);
    let mut line = Line { bytes: [0; 512], len: 0 };
    // A line that is full is cut.
    write!(line, "hot-host: {name}").ok();
    if matches!(signal, libc::SIGSEGV | libc::SIGBUS) {
        // SAFETY: the kernel sets the address for these two signals.
        let address = unsafe { info.si_addr() };
        write!(line, " at {address:p}").ok();
    }
    let at = instruction(context);
    let crashed = Place::of(at);
    let in_module = crashed.as_ref().filter(|place| place.is_module()).is_some();
    let caller = if in_module || !has_room() { None } else { caller() };
    match caller.as_ref().or(crashed.as_ref()) {
        Some(place) => place.write(&mut line),
        None => {
            write!(line, " at the instruction {at:#x}, which is in no file").ok();
        }
    }
    line.end();
    // SAFETY: the bytes live here; standard error may be closed, which fails.
    unsafe { libc::write(2, line.bytes.as_ptr().cast(), line.len) };
}

/// A place in a loaded file.
struct Place {
    info: libc::Dl_info,
    at: usize,
}

impl Place {
    fn of(at: usize) -> Option<Self> {
        let mut info = MaybeUninit::<libc::Dl_info>::uninit();
        // SAFETY: looks the address up, whatever it is, and fills `info` if it is in a loaded file.
        if unsafe { libc::dladdr(at as *const c_void, info.as_mut_ptr()) } == 0 {
            return None;
        }
        // SAFETY: filled, as it did not answer 0.
        Some(Self { info: unsafe { info.assume_init() }, at })
    }

    /// The name that the file was loaded by.
    fn file(&self) -> &[u8] {
        if self.info.dli_fname.is_null() {
            return b"";
        }
        // SAFETY: of a loaded file, which is never unloaded; the name ends with a NUL.
        unsafe { CStr::from_ptr(self.info.dli_fname) }.to_bytes()
    }

    /// Whether the file is the artifact, which is loaded by the name of its descriptor.
    fn is_module(&self) -> bool {
        self.file().strip_prefix(b"/proc/self/fd/").is_some_and(|number| {
            std::str::from_utf8(number).is_ok_and(|number| number.parse() == Ok(ARTIFACT))
        })
    }

    /// ` in SYMBOL+0x12 of FILE`, or the offset in the file where no symbol that others can see has the place.
    fn write(&self, line: &mut Line) {
        if self.info.dli_sname.is_null() {
            write!(line, " in +{:#x}", self.at.wrapping_sub(self.info.dli_fbase as usize)).ok();
        } else {
            // SAFETY: a name in the file's string table, which ends with a NUL.
            let symbol = unsafe { CStr::from_ptr(self.info.dli_sname) };
            line.write_str(" in ").ok();
            line.put(symbol.to_bytes().iter().take(300));
            write!(line, "+{:#x}", self.at.wrapping_sub(self.info.dli_saddr as usize)).ok();
        }
        line.write_str(" of ").ok();
        if self.is_module() {
            line.write_str("the module").ok();
        } else {
            line.put(self.file().rsplit(|byte| *byte == b'/').next().unwrap_or_default().iter().take(100));
        }
    }
}

/// The innermost call in the module that led here.
fn caller() -> Option<Place> {
    let (frames, len) = frames();
    // A frame has the address behind its call, which may be in the next function already.
    frames[..len]
        .iter()
        .filter_map(|frame| Place::of((*frame as usize).wrapping_sub(1)))
        .find(Place::is_module)
}

fn frames() -> ([*mut c_void; FRAMES as usize], usize) {
    let mut frames = [std::ptr::null_mut(); FRAMES as usize];
    // SAFETY: there is room for as many frames as it is told.
    let len = unsafe { libc::backtrace(frames.as_mut_ptr(), c_int::from(FRAMES)) };
    (frames, usize::try_from(len).unwrap_or_default())
}

/// Whether the unwinder has room: not on a stack for signals that is a small one.
fn has_room() -> bool {
    let mut stack = MaybeUninit::<libc::stack_t>::uninit();
    // SAFETY: asks only, and fills `stack`.
    if unsafe { libc::sigaltstack(std::ptr::null(), stack.as_mut_ptr()) } != 0 {
        return false;
    }
    // SAFETY: filled, as it answered 0.
    let stack = unsafe { stack.assume_init() };
    stack.ss_flags & libc::SS_ONSTACK == 0 || stack.ss_size >= UNWINDER
}

/// The instruction that the thread was at.
fn instruction(context: *mut c_void) -> usize {
    // SAFETY: the kernel hands a handler with SA_SIGINFO the thread's state as its third argument.
    let context = unsafe { &*context.cast::<libc::ucontext_t>() };
    #[cfg(target_arch = "x86_64")]
    let at = context.uc_mcontext.gregs[libc::REG_RIP as usize];
    #[cfg(target_arch = "aarch64")]
    let at = context.uc_mcontext.pc;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an address, whatever its type"
    )]
    {
        at as usize
    }
}

/// A line without an allocator.
struct Line {
    bytes: [u8; 512],
    len: usize,
}

impl Line {
    fn put<'a>(&mut self, bytes: impl Iterator<Item = &'a u8>) {
        // One is left for the end.
        let room = self.bytes.len() - 1;
        for byte in bytes {
            if self.len < room {
                self.bytes[self.len] = *byte;
                self.len += 1;
            }
        }
    }

    fn end(&mut self) {
        self.bytes[self.len] = b'\n';
        self.len += 1;
    }
}

impl std::fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.put(text.as_bytes().iter());
        Ok(())
    }
}

fn handle(signal: c_int, handler: usize, flags: c_int) {
    // SAFETY: all zeros are an action: the default one, with an empty mask.
    let mut action = unsafe { MaybeUninit::<libc::sigaction>::zeroed().assume_init() };
    action.sa_sigaction = handler;
    action.sa_flags = flags;
    // SAFETY: the handlers of this file have the signature that their flags ask for. It fails for no signal of this file.
    unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
}

fn unblock(signal: c_int) {
    // SAFETY: all zeros are a set, the empty one.
    let mut set = unsafe { MaybeUninit::<libc::sigset_t>::zeroed().assume_init() };
    // SAFETY: the set is a set, and the signal one that exists.
    unsafe { libc::sigaddset(&raw mut set, signal) };
    // SAFETY: changes the mask of this thread alone.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut()) };
}

fn process() -> c_int {
    // SAFETY: takes nothing and can't fail.
    unsafe { libc::getpid() }
}

fn thread() -> c_int {
    // SAFETY: takes nothing and can't fail.
    unsafe { libc::gettid() }
}
