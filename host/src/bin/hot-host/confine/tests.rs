use super::calls::{MACHINE, names, program};
use super::domain::{in_force, wanted};
use hot_wire::isolation::{Confine, Parts};
use landlock::ABI;
use libc::{SECCOMP_RET_ALLOW as ALLOW, SECCOMP_RET_ERRNO, SECCOMP_RET_USER_NOTIF as REFUSE, c_long};

const NOT_SPOKEN: u32 = SECCOMP_RET_ERRNO | libc::EPROTONOSUPPORT as u32;
const NO_SUCH_CALL: u32 = SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

/// The filter's answer to a call, by the rules of classic BPF as far as the program uses them.
fn run(machine: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let program = program(MACHINE.unwrap(), REFUSE, true);
    let load = |at: u32| match at {
        0 => number,
        4 => machine,
        at => {
            let (place, half) = ((at - 16) / 8, (at - 16) % 8);
            assert_eq!(half, 0, "the low half");
            (arguments[place as usize] & 0xffff_ffff) as u32
        }
    };
    let (mut at, mut held) = (0, 0);
    loop {
        let step = program[at];
        at += 1;
        let holds = match step.code {
            0x20 => {
                held = load(step.k);
                continue;
            }
            0x54 => {
                held &= step.k;
                continue;
            }
            0x06 => return step.k,
            0x15 => held == step.k,
            0x35 => held >= step.k,
            0x45 => held & step.k != 0,
            code => panic!("an instruction of code {code:#x}"),
        };
        at += usize::from(if holds { step.jt } else { step.jf });
    }
}

fn call(number: c_long, arguments: &[i64]) -> u32 {
    let mut all = [0; 6];
    for (place, argument) in all.iter_mut().zip(arguments) {
        *place = argument.cast_unsigned();
    }
    run(MACHINE.unwrap(), u32::try_from(number).unwrap(), all)
}

#[test]
fn the_filter_refuses_its_list_and_nothing_else() {
    let judged = [libc::SYS_clone, libc::SYS_clone3, libc::SYS_seccomp, libc::SYS_ioctl];
    for number in 0..1024 {
        let expected = match number {
            libc::SYS_socket => continue,
            libc::SYS_clone3 => NO_SUCH_CALL,
            number if judged.contains(&number) => ALLOW,
            number if super::calls::REFUSED.iter().any(|(_, refused)| *refused == number) => REFUSE,
            _ => ALLOW,
        };
        assert_eq!(call(number, &[]), expected, "call {number}");
    }
    for ports in [false, true] {
        let program = program(MACHINE.unwrap(), REFUSE, ports);
        assert!(program.len() < 256, "{} instructions", program.len());
    }
}

#[test]
fn calls_of_other_machines_do_not_exist() {
    let number = u32::try_from(libc::SYS_getpid).unwrap();
    assert_eq!(run(MACHINE.unwrap(), number, [0; 6]), ALLOW);
    // i386 on x86-64, arm on aarch64.
    for other in [0x4000_0003, 0x4000_0028] {
        assert_eq!(run(other, number, [0; 6]), NO_SUCH_CALL);
    }
    assert_eq!(run(MACHINE.unwrap(), number | 0x4000_0000, [0; 6]), NO_SUCH_CALL);
    assert_eq!(run(MACHINE.unwrap(), u32::MAX, [0; 6]), NO_SUCH_CALL);
}

#[test]
fn arguments_decide_where_they_must() {
    let thread = i64::from(libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND);
    for (name, number, arguments, expected) in [
        ("a thread", libc::SYS_clone, vec![thread], ALLOW),
        ("a child", libc::SYS_clone, vec![i64::from(libc::SIGCHLD)], ALLOW),
        ("a user namespace", libc::SYS_clone, vec![i64::from(libc::CLONE_NEWUSER)], REFUSE),
        ("a network", libc::SYS_clone, vec![thread | i64::from(libc::CLONE_NEWNET)], REFUSE),
        ("a filter", libc::SYS_seccomp, vec![1, 1], ALLOW),
        ("a listener", libc::SYS_seccomp, vec![1, 8], SECCOMP_RET_ERRNO | 1),
        ("unix", libc::SYS_socket, vec![1, 5 | 0o2000000, 0], ALLOW),
        ("tcp", libc::SYS_socket, vec![2, 1 | 0o4000, 0], ALLOW),
        ("udp over v6", libc::SYS_socket, vec![10, 2, 0], ALLOW),
        ("tcp over several paths", libc::SYS_socket, vec![2, 1, 262], NOT_SPOKEN),
        ("sctp over v6", libc::SYS_socket, vec![10, 1, 132], NOT_SPOKEN),
        ("of unix, whatever the protocol", libc::SYS_socket, vec![1, 1, 262], ALLOW),
        ("send", libc::SYS_sendto, vec![4, 0, 9, 0x4000], ALLOW),
        ("send and connect", libc::SYS_sendto, vec![4, 0, 9, 0x2000_4000], SECCOMP_RET_ERRNO | 95),
        ("send a message and connect", libc::SYS_sendmsg, vec![4, 0, 0x2000_0000], SECCOMP_RET_ERRNO | 95),
        ("send messages and connect", libc::SYS_sendmmsg, vec![4, 0, 1, 0x2000_0000], SECCOMP_RET_ERRNO | 95),
        ("raw", libc::SYS_socket, vec![2, 3 | 0o2000000, 1], REFUSE),
        ("raw over v6", libc::SYS_socket, vec![10, 3, 58], REFUSE),
        ("of packets", libc::SYS_socket, vec![2, 10, 0], REFUSE),
        ("routes", libc::SYS_socket, vec![16, 3 | 0o2000000, 0], ALLOW),
        ("of the kernel's audit", libc::SYS_socket, vec![16, 3, 9], REFUSE),
        ("of frames", libc::SYS_socket, vec![17, 3, 0], REFUSE),
        ("the kernel's ciphers", libc::SYS_socket, vec![38, 5, 0], REFUSE),
        ("of machines", libc::SYS_socket, vec![40, 1, 0], REFUSE),
        ("of a high half", libc::SYS_socket, vec![2 | 1 << 40, 1, 0], ALLOW),
        ("how much can be read", libc::SYS_ioctl, vec![0, 0x541B], ALLOW),
        ("fake input", libc::SYS_ioctl, vec![0, 0x5412], REFUSE),
        ("fake input, high half set", libc::SYS_ioctl, vec![0, 0x5412 | 1 << 32], REFUSE),
        ("to ask", libc::SYS_personality, vec![0xffff_ffff], ALLOW),
        ("another", libc::SYS_personality, vec![0x004_0000], REFUSE),
    ] {
        assert_eq!(call(number, &arguments), expected, "{name}");
    }
}

#[test]
fn each_refused_call_is_in_the_docs() {
    let docs = include_str!("../../../../../docs/isolation.md");
    for name in names() {
        assert!(docs.contains(&format!("`{name}`")), "docs/isolation.md does not name `{name}`");
    }
    for path in super::domain::READ.iter().chain(&super::domain::WRITE) {
        assert!(docs.contains(&format!("`{path}`")), "docs/isolation.md does not name `{path}`");
    }
}

#[test]
fn a_kernel_without_a_part_is_not_said_to_have_it() {
    let ports = Confine { connect: Some(vec![443]), ..Confine::default() };
    let all = Parts::FILES.with(Parts::NETWORK).with(Parts::SCOPES);
    assert_eq!(wanted(&ports), all);
    assert_eq!(wanted(&Confine::default()), all.without(Parts::NETWORK), "any port: nothing to enforce");
    let left = Confine { leave_out: Parts::FILES.with(Parts::NETWORK), ..ports };
    assert_eq!(wanted(&left), Parts::SCOPES);
    for (abi, expected) in [
        (ABI::Unsupported, Parts::NONE),
        (ABI::V1, Parts::FILES),
        (ABI::V3, Parts::FILES),
        (ABI::V4, Parts::FILES.with(Parts::NETWORK)),
        (ABI::V5, Parts::FILES.with(Parts::NETWORK)),
        (ABI::V6, all),
        (ABI::V7, all),
    ] {
        assert_eq!(in_force(all, abi), expected, "{abi:?}");
        assert_eq!(in_force(Parts::SCOPES, abi), expected.without(Parts::FILES.with(Parts::NETWORK)));
    }
}
