"""Docker's default seccomp profile, by its facts: which system calls a container may make, grouped by purpose.

A name that an architecture does not have is left out there; one that libseccomp is too old to know is answered with
"no such call", as an old kernel would. What is not listed is refused with EPERM. The source of the facts is
github.com/moby/profiles, seccomp/default_linux.go (state of 2026); the arrangement and the reasons are ours.
"""

FILES = """
    access faccessat faccessat2 open openat openat2 creat close close_range dup dup2 dup3 fcntl fcntl64
    read readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2 lseek _llseek readahead
    truncate truncate64 ftruncate ftruncate64 fallocate fadvise64 fadvise64_64 copy_file_range sendfile sendfile64
    splice tee vmsplice sync syncfs fsync fdatasync sync_file_range flock ioctl name_to_handle_at
    stat stat64 lstat lstat64 fstat fstat64 fstatat64 newfstatat statx statfs statfs64 fstatfs fstatfs64
    statmount listmount cachestat
    chmod fchmod fchmodat fchmodat2 chown chown32 lchown lchown32 fchown fchown32 fchownat umask
    utime utimes futimesat utimensat utimensat_time64
    link linkat symlink symlinkat readlink readlinkat rename renameat renameat2 unlink unlinkat
    mkdir mkdirat rmdir mknod mknodat chdir fchdir getcwd getdents getdents64
    getxattr lgetxattr fgetxattr getxattrat setxattr lsetxattr fsetxattr setxattrat
    listxattr llistxattr flistxattr listxattrat removexattr lremovexattr fremovexattr removexattrat
    inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark
"""

WAITING = """
    select _newselect pselect6 pselect6_time64 poll ppoll ppoll_time64
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait epoll_pwait2
    eventfd eventfd2 signalfd signalfd4 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime
    timerfd_settime64 io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents io_pgetevents_time64
"""

SOCKETS_AND_PIPES = """
    pipe pipe2 socketcall socketpair bind connect listen accept accept4 getsockname getpeername getsockopt setsockopt
    shutdown send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg recvmmsg_time64
"""

SYSTEM_V_AND_POSIX_IPC = """
    ipc msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt shmget
    mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink
"""

MEMORY = """
    brk mmap mmap2 munmap mremap mprotect madvise mincore msync remap_file_pages mseal
    mlock mlock2 mlockall munlock munlockall memfd_create memfd_secret membarrier map_shadow_stack
    pkey_alloc pkey_free pkey_mprotect
"""

PROCESSES = """
    execve execveat exit exit_group fork vfork wait4 waitid waitpid kill tkill tgkill pause restart_syscall
    pidfd_open pidfd_send_signal process_mrelease prctl rseq seccomp uretprobe
    getpid getppid gettid getpgid getpgrp setpgid getsid setsid set_tid_address set_robust_list get_robust_list
    get_thread_area set_thread_area futex futex_time64 futex_wait futex_waitv futex_wake futex_requeue
    landlock_create_ruleset landlock_add_rule landlock_restrict_self
    process_vm_readv process_vm_writev ptrace
"""

SIGNALS = """
    rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
    rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack sigprocmask sigreturn
"""

IDENTITIES = """
    getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 getresuid getresuid32 getresgid getresgid32
    setuid setuid32 setgid setgid32 setreuid setreuid32 setregid setregid32 setresuid setresuid32 setresgid setresgid32
    setfsuid setfsuid32 setfsgid setfsgid32 getgroups getgroups32 setgroups setgroups32 capget capset
"""

SCHEDULING_AND_LIMITS = """
    sched_yield sched_getaffinity sched_setaffinity sched_getattr sched_setattr sched_getparam sched_setparam
    sched_getscheduler sched_setscheduler sched_get_priority_max sched_get_priority_min sched_rr_get_interval
    sched_rr_get_interval_time64 getpriority setpriority ioprio_get ioprio_set getcpu
    getrlimit setrlimit ugetrlimit prlimit64 getrusage times sysinfo uname getrandom riscv_hwprobe
"""

TIME = """
    time gettimeofday adjtimex clock_adjtime clock_adjtime64 clock_getres clock_getres_time64
    clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 nanosleep alarm getitimer setitimer
    timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64
"""

ALLOWED = (
    FILES,
    WAITING,
    SOCKETS_AND_PIPES,
    SYSTEM_V_AND_POSIX_IPC,
    MEMORY,
    PROCESSES,
    SIGNALS,
    IDENTITIES,
    SCHEDULING_AND_LIMITS,
    TIME,
)
"""For every container, on every architecture."""

ALLOWED_ON: dict[tuple[str, ...], str] = {
    ("amd64", "x32"): "arch_prctl",
    ("amd64", "x32", "x86"): "modify_ldt",
    ("arm", "arm64"): "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
    ("ppc64le",): "sync_file_range2 swapcontext",
    ("s390", "s390x"): "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr",
    ("riscv64",): "riscv_flush_icache",
}
"""Further ones, on these architectures only."""

ALLOWED_WITH = {
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_SYS_ADMIN": """
        bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie
        lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open
        quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare
    """,
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module init_module finit_module",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    "CAP_SYS_RAWIO": "iopl ioperm",
    "CAP_SYS_TIME": "settimeofday stime clock_settime clock_settime64",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYSLOG": "syslog",
    "CAP_BPF": "bpf",
    "CAP_PERFMON": "perf_event_open",
}
"""Further ones, for a container that has this capability in its bounding set."""

PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
"""What personality(2) may be asked for: Linux, Linux on 32 bits, both with an old uname, and which it is now."""

SOCKET_FAMILIES = (
    (0xFFFFFFE0, 0),
    (0xFFFFFFFC, 32),
    (0xFFFFFFFE, 36),
    (0xFFFFFFFF, 39),
    (0xFFFFFFFF, 41),
    (0xFFFFFFFE, 42),
    (0xFFFFFFFC, 44),
    (0xFFFFFFF0, 48),
)
"""What socket(2) may be asked for, as (mask, value): every family below 64 but 38 and 40.

38, AF_ALG, is the kernel's crypto interface, a source of holes; 40, AF_VSOCK, leads out to the hypervisor and knows no
network namespace. Docker compares the whole register ("less than 38", …); the kernel looks at its lower 32 bits only,
so that a family of 2^32 + 38 would pass. Masks leave nothing in the upper half to play with.
"""

NEW_NAMESPACES = 0x7E020000
"""The flags of clone(2) that make namespaces: mnt, cgroup, uts, ipc, user, pid and net."""

CLONE_FLAGS_SECOND = ("s390", "s390x")
"""Where clone's flags are its second argument, not its first."""

SUB_ARCHITECTURES = {
    "SCMP_ARCH_X86_64": ("SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    "SCMP_ARCH_AARCH64": ("SCMP_ARCH_ARM",),
    "SCMP_ARCH_S390X": ("SCMP_ARCH_S390",),
    "SCMP_ARCH_RISCV64": (),
}
"""The other ABIs that a kernel of this architecture also serves; a program may switch between them at any moment."""
