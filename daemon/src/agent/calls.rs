//! The names of system calls that a host may be refused, and what a refused one tells of its module: rules alone.

use hot_rollout::Cause;

use crate::supervisor::Denials;

macro_rules! calls {
    ($($(#[$only:meta])? $name:ident),* $(,)?) => {
        &[$($(#[$only])? (stringify!($name), libc::$name)),*]
    };
}

/// Calls that no server makes, nor any library on its behalf to see what there is: who makes one reaches for other
/// processes, for the kernel or for the machine.
const ATTACKS: &[(&str, libc::c_long)] = calls![
    SYS_ptrace,
    SYS_process_vm_writev,
    SYS_pidfd_getfd,
    SYS_bpf,
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
    SYS_open_by_handle_at,
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_kexec_load,
    SYS_kexec_file_load,
    SYS_reboot,
    SYS_swapon,
    SYS_swapoff,
    SYS_settimeofday,
    SYS_clock_settime,
    SYS_sethostname,
    SYS_setdomainname,
    #[cfg(target_arch = "x86_64")]
    SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    SYS_ioperm,
];

/// Calls that are refused as well, and that libraries try and do without: what is newer or faster, or what a program asks
/// for at its start.
const HARMLESS: &[(&str, libc::c_long)] = calls![
    SYS_execve,
    SYS_execveat,
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
    SYS_perf_event_open,
    SYS_userfaultfd,
    SYS_add_key,
    SYS_request_key,
    SYS_keyctl,
    SYS_fanotify_init,
    SYS_process_vm_readv,
    SYS_process_madvise,
    SYS_process_mrelease,
    SYS_kcmp,
    SYS_move_pages,
    SYS_migrate_pages,
    SYS_name_to_handle_at,
    SYS_acct,
    SYS_quotactl,
    SYS_quotactl_fd,
    SYS_clock_adjtime,
    SYS_adjtimex,
    SYS_syslog,
    SYS_vhangup,
    SYS_lookup_dcookie,
    SYS_nfsservctl,
    SYS_clone,
    SYS_clone3,
    SYS_seccomp,
    SYS_socket,
    SYS_ioctl,
    SYS_personality,
    SYS_prctl,
    #[cfg(target_arch = "x86_64")]
    SYS_modify_ldt,
    #[cfg(target_arch = "x86_64")]
    SYS_uselib,
];

/// The name of a call by its number on this machine; the number itself where none is known.
pub(crate) fn name(call: u32) -> String {
    let all = ATTACKS.iter().chain(HARMLESS);
    let found = all.into_iter().find(|(_, number)| *number == libc::c_long::from(call));
    found.map_or_else(|| format!("number {call}"), |(name, _)| name.trim_start_matches("SYS_").to_owned())
}

/// What an instance that made these calls is to be blamed for: the call of an attack that it made most often.
pub(crate) fn attack(denied: &Denials) -> Option<Cause> {
    let is_attack = |call: u32| ATTACKS.iter().any(|(_, number)| *number == libc::c_long::from(call));
    let (call, times) =
        denied.calls().filter(|(call, _)| is_attack(*call)).max_by_key(|(_, times)| *times)?;
    Some(Cause::Denied { call: name(call), times })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(call: libc::c_long) -> u32 {
        u32::try_from(call).unwrap()
    }

    #[test]
    fn each_call_has_one_name_and_one_meaning() {
        let mut numbers: Vec<libc::c_long> =
            ATTACKS.iter().chain(HARMLESS).map(|(_, number)| *number).collect();
        let all = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), all);
        assert_eq!(name(number(libc::SYS_io_uring_setup)), "io_uring_setup");
        assert_eq!(name(9999), "number 9999");
    }

    #[test]
    fn only_what_no_server_does_is_an_attack() {
        let tried = [
            (number(libc::SYS_execve), 50),
            (number(libc::SYS_io_uring_setup), 90),
            (number(libc::SYS_perf_event_open), 3),
            (9999, 7),
        ];
        assert_eq!(attack(&tried.into_iter().collect()), None);
        let with = tried.into_iter().chain([(number(libc::SYS_bpf), 1), (number(libc::SYS_ptrace), 2)]);
        let cause = Cause::Denied { call: "ptrace".to_owned(), times: 2 };
        assert_eq!(attack(&with.collect()), Some(cause));
    }
}
