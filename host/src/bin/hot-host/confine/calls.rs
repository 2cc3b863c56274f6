//! The system calls that servers don't need, and the filter's program that refuses them.
//!
//! A list of what is refused and not of what is allowed: a module is any program, with any libraries, and what a new C
//! library or runtime begins to use must not break it.

use libc::{c_long, sock_filter};

/// The kernel's name of this machine's kind; without one there is no filter.
pub(super) const MACHINE: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0xC000_003E)
} else if cfg!(target_arch = "aarch64") {
    Some(0xC000_00B7)
} else {
    None
};

macro_rules! calls {
    ($($(#[$only:meta])? $name:ident),* $(,)?) => {
        &[$($(#[$only])? (stringify!($name), libc::$name)),*]
    };
}

/// Refused whatever their arguments, by name and number.
pub(super) const REFUSED: &[(&str, c_long)] = calls![
    // Other processes: their memory, descriptors, traces.
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_process_madvise,
    SYS_process_mrelease,
    SYS_pidfd_getfd,
    SYS_kcmp,
    SYS_move_pages,
    SYS_migrate_pages,
    // Other programs: a module is one process; one of an exec would have none of the host's duties.
    SYS_execve,
    SYS_execveat,
    // Large parts of the kernel with a record of holes.
    SYS_bpf,
    SYS_perf_event_open,
    SYS_userfaultfd,
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
    SYS_add_key,
    SYS_request_key,
    SYS_keyctl,
    SYS_fanotify_init,
    // Mounts, namespaces, roots, and files by other ways than their names.
    SYS_mount,
    SYS_umount2,
    SYS_move_mount,
    SYS_open_tree,
    SYS_fsopen,
    SYS_fsconfig,
    SYS_fsmount,
    SYS_fspick,
    SYS_mount_setattr,
    SYS_pivot_root,
    SYS_chroot,
    SYS_setns,
    SYS_unshare,
    SYS_name_to_handle_at,
    SYS_open_by_handle_at,
    // The machine.
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_kexec_load,
    SYS_kexec_file_load,
    SYS_reboot,
    SYS_swapon,
    SYS_swapoff,
    SYS_acct,
    SYS_quotactl,
    SYS_quotactl_fd,
    SYS_settimeofday,
    SYS_clock_settime,
    SYS_clock_adjtime,
    SYS_adjtimex,
    SYS_sethostname,
    SYS_setdomainname,
    SYS_syslog,
    SYS_vhangup,
    SYS_lookup_dcookie,
    SYS_nfsservctl,
    #[cfg(target_arch = "x86_64")]
    SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    SYS_modify_ldt,
    #[cfg(target_arch = "x86_64")]
    SYS_uselib,
];

/// A look at one argument's low 32 bits, which is all that the kernel looks at in those that are looked at here.
#[derive(Debug, Clone, Copy)]
enum Look {
    /// Goes by this answer if any of these bits is set; else on.
    Bits(u32, Answer),
    /// Goes by this answer if, of the bits of the mask, it is this one; else on.
    Is(u32, u32, Answer),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Allow,
    Refuse,
    /// With this error at once, uncounted.
    Error(i32),
}

/// Calls of which the arguments decide: name, number, looks in their order with the argument's place, and the last word.
type Judged = (&'static str, c_long, &'static [(usize, Look)], Answer);

/// `CLONE_NEW*` but `CLONE_NEWTIME`, which `clone` does not take.
const NAMESPACES: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

/// The type of a socket without its flags.
const TYPE: u32 = 0xf;
const ALL: u32 = u32::MAX;
/// Fakes input on the terminal, and the console's own.
const TIOCSTI: u32 = 0x5412;
const TIOCLINUX: u32 = 0x541C;

const JUDGED: &[Judged] = &[
    // No namespaces, in which a user has rights that it has not outside.
    (
        "SYS_clone",
        libc::SYS_clone,
        &[(0, Look::Bits(NAMESPACES.cast_unsigned(), Answer::Refuse))],
        Answer::Allow,
    ),
    // Its flags are in memory, where a filter can't look. The C library takes `clone` when there is no `clone3`.
    ("SYS_clone3", libc::SYS_clone3, &[], Answer::Error(libc::ENOSYS)),
    // A filter with a listener of the module's own could let calls go on once hot-spawn, and with it ours, is gone. So
    // this is not left to the listener either.
    ("SYS_seccomp", libc::SYS_seccomp, &[(1, Look::Bits(1 << 3, Answer::Error(libc::EPERM)))], Answer::Allow),
    // Unix, IP without raw sockets, and of netlink what lists the machine's addresses (`getaddrinfo` asks).
    (
        "SYS_socket",
        libc::SYS_socket,
        &[
            (0, Look::Is(ALL, libc::AF_UNIX.cast_unsigned(), Answer::Allow)),
            (1, Look::Is(TYPE, libc::SOCK_RAW.cast_unsigned(), Answer::Refuse)),
            (1, Look::Is(TYPE, 10, Answer::Refuse)), // SOCK_PACKET
            // These connect and listen beside TCP, where rules for its ports don't look. Runtimes take TCP then.
            (2, Look::Is(ALL, 262, Answer::Error(libc::EPROTONOSUPPORT))), // IPPROTO_MPTCP
            (2, Look::Is(ALL, 256, Answer::Error(libc::EPROTONOSUPPORT))), // IPPROTO_SMC
            (2, Look::Is(ALL, 132, Answer::Error(libc::EPROTONOSUPPORT))), // IPPROTO_SCTP
            (2, Look::Is(ALL, 33, Answer::Error(libc::EPROTONOSUPPORT))),  // IPPROTO_DCCP
            (0, Look::Is(ALL, libc::AF_INET.cast_unsigned(), Answer::Allow)),
            (0, Look::Is(ALL, libc::AF_INET6.cast_unsigned(), Answer::Allow)),
        ],
        Answer::Refuse,
    ),
    (
        "SYS_ioctl",
        libc::SYS_ioctl,
        &[(1, Look::Is(ALL, TIOCSTI, Answer::Refuse)), (1, Look::Is(ALL, TIOCLINUX, Answer::Refuse))],
        Answer::Allow,
    ),
    // To ask, and the usual one.
    (
        "SYS_personality",
        libc::SYS_personality,
        &[(0, Look::Is(ALL, u32::MAX, Answer::Allow)), (0, Look::Is(ALL, 0, Answer::Allow))],
        Answer::Refuse,
    ),
];

const FAST_OPEN: Look = Look::Bits(libc::MSG_FASTOPEN.cast_unsigned(), Answer::Error(libc::EOPNOTSUPP));

/// Judged besides where a module may connect to some ports only: these connect without being asked about it. Not
/// elsewhere, as the kernel would run the filter for each of them.
const JUDGED_WITH_PORTS: &[Judged] = &[
    ("SYS_sendto", libc::SYS_sendto, &[(3, FAST_OPEN)], Answer::Allow),
    ("SYS_sendmsg", libc::SYS_sendmsg, &[(2, FAST_OPEN)], Answer::Allow),
    ("SYS_sendmmsg", libc::SYS_sendmmsg, &[(3, FAST_OPEN)], Answer::Allow),
];

/// A netlink socket: always raw, so it is judged before the types are looked at.
const NETLINK: u32 = libc::AF_NETLINK.cast_unsigned();

/// The names of all calls that may be refused.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let judged = JUDGED.iter().chain(JUDGED_WITH_PORTS).map(|(name, ..)| *name);
    REFUSED.iter().map(|(name, _)| *name).chain(judged).map(|name| name.trim_start_matches("SYS_"))
}

const LOAD: u16 = 0x20;
const JUMP_EQ: u16 = 0x15;
const JUMP_GE: u16 = 0x35;
const JUMP_SET: u16 = 0x45;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;

/// Places in `struct seccomp_data`.
const NUMBER: u32 = 0;
const MACHINE_AT: u32 = 4;

/// Numbers from here on are those of x32 on x86-64, and of nothing elsewhere.
const X32: u32 = 0x4000_0000;

/// The program for a machine: what is refused goes by `refused`, the kernel's word for it. Calls that only their number
/// decides are judged by number alone, so that the kernel can remember those that are allowed and run no filter for them.
/// `ports`: there are rules for ports.
pub(super) fn program(machine: u32, refused: u32, ports: bool) -> Vec<sock_filter> {
    let answer = |answer| match answer {
        Answer::Allow => libc::SECCOMP_RET_ALLOW,
        Answer::Refuse => refused,
        Answer::Error(errno) => libc::SECCOMP_RET_ERRNO | errno.cast_unsigned(),
    };
    let unknown = answer(Answer::Error(libc::ENOSYS));
    let mut program = vec![
        word(LOAD, MACHINE_AT),
        jump(JUMP_EQ, machine, 1, 0),
        word(RETURN, unknown),
        word(LOAD, NUMBER),
        jump(JUMP_GE, X32, 0, 1),
        word(RETURN, unknown),
    ];
    for (_, number) in REFUSED {
        program.push(jump(JUMP_EQ, low(*number), 0, 1));
        program.push(word(RETURN, refused));
    }
    let with_ports = if ports { JUDGED_WITH_PORTS } else { &[] };
    for (_, number, looks, last) in JUDGED.iter().chain(with_ports) {
        let mut block = Vec::new();
        if *number == libc::SYS_socket {
            block.extend([word(LOAD, argument(0)), jump(JUMP_EQ, NETLINK, 0, 4)]);
            block.extend([word(LOAD, argument(2)), jump(JUMP_EQ, 0, 0, 1)]); // NETLINK_ROUTE
            block.extend([word(RETURN, libc::SECCOMP_RET_ALLOW), word(RETURN, refused)]);
        }
        for (place, look) in *looks {
            block.push(word(LOAD, argument(*place)));
            match *look {
                Look::Bits(bits, then) => {
                    block.extend([jump(JUMP_SET, bits, 0, 1), word(RETURN, answer(then))]);
                }
                Look::Is(mask, value, then) => {
                    block.push(word(AND, mask));
                    block.extend([jump(JUMP_EQ, value, 0, 1), word(RETURN, answer(then))]);
                }
            }
        }
        block.push(word(RETURN, answer(*last)));
        // Blocks are far shorter than a jump is long: the tests run every one.
        program.push(jump(JUMP_EQ, low(*number), 0, u8::try_from(block.len()).unwrap_or(u8::MAX)));
        program.append(&mut block);
    }
    program.push(word(RETURN, libc::SECCOMP_RET_ALLOW));
    program
}

/// The place of an argument's low half.
fn argument(place: usize) -> u32 {
    const FIRST: u32 = 16;
    // Both machines have the low half first.
    FIRST + 8 * u32::try_from(place).unwrap_or_default()
}

/// A call's number as the filter sees it.
fn low(number: c_long) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

const fn word(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

const fn jump(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}
