"""Profiles and their programs: what Docker's default allows, and that our compiler agrees with libseccomp."""

import errno
import json
import os
import subprocess
import sys

import pyseccomp
import pytest

from tests.support import classic_bpf as bpf
from wherry.linux import seccomp
from wherry.linux.capabilities import DEFAULT, NAMES
from wherry.linux.seccomp import Architecture, Argument, Condition, Profile, ProfileError, Rule

X86_64, X86, AARCH64, ARM = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000028
X32_BIT = 0x40000000
EPERM = bpf.ERRNO | errno.EPERM
ENOSYS = bpf.ERRNO | errno.ENOSYS


def number(name: str, arch: int = pyseccomp.Arch.X86_64) -> int:
    found: int = pyseccomp.resolve_syscall(arch, name)
    assert found >= 0, name
    return found


@pytest.fixture(scope="module")
def default() -> bytes:
    return seccomp.compile_profile(seccomp.default_profile(), DEFAULT, "x86_64")


@pytest.fixture(scope="module")
def everything() -> bytes:
    return seccomp.compile_profile(seccomp.default_profile(), NAMES, "x86_64")


@pytest.mark.parametrize(
    "name", ["read", "openat", "execve", "futex", "ptrace", "chroot", "seccomp", "landlock_add_rule"]
)
def test_ordinary_calls_are_allowed(default: bytes, name: str) -> None:
    assert bpf.run(default, number(name)) == bpf.ALLOW


@pytest.mark.parametrize(
    "name",
    [
        *("mount", "umount2", "pivot_root", "setns", "unshare", "open_tree", "move_mount", "fsopen"),
        *("keyctl", "add_key", "request_key", "bpf", "perf_event_open", "userfaultfd", "io_uring_setup"),
        *("init_module", "finit_module", "kexec_load", "reboot", "swapon", "acct", "quotactl"),
        *("open_by_handle_at", "iopl", "ioperm", "settimeofday", "vhangup", "syslog", "mbind", "kcmp", "pidfd_getfd"),
    ],
)
def test_dangerous_calls_are_refused_with_eperm(default: bytes, name: str) -> None:
    assert bpf.run(default, number(name)) == EPERM


@pytest.mark.parametrize(
    ("capability", "name"),
    [
        ("CAP_SYS_ADMIN", "mount"),
        ("CAP_SYS_ADMIN", "clone3"),
        ("CAP_SYS_MODULE", "init_module"),
        ("CAP_SYS_PTRACE", "kcmp"),
        ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
        ("CAP_SYS_TIME", "clock_settime"),
        ("CAP_BPF", "bpf"),
        ("CAP_SYSLOG", "syslog"),
    ],
)
def test_a_capability_opens_its_calls(default: bytes, capability: str, name: str) -> None:
    program = seccomp.compile_profile(seccomp.default_profile(), {*DEFAULT, capability}, "x86_64")
    assert bpf.run(default, number(name)) != bpf.ALLOW
    assert bpf.run(program, number(name)) == bpf.ALLOW


def test_without_its_capability_chroot_is_refused() -> None:
    program = seccomp.compile_profile(seccomp.default_profile(), set(DEFAULT) - {"CAP_SYS_CHROOT"}, "x86_64")
    assert bpf.run(program, number("chroot")) == EPERM


def test_even_all_capabilities_do_not_open_the_keyring(everything: bytes) -> None:
    assert bpf.run(everything, number("keyctl")) == EPERM


@pytest.mark.parametrize("flag", [0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000])
def test_clone_makes_no_namespace(default: bytes, flag: int) -> None:
    assert bpf.run(default, number("clone"), (flag | 17,)) == EPERM


def test_clone_makes_threads_and_processes(default: bytes) -> None:
    assert bpf.run(default, number("clone"), (17,)) == bpf.ALLOW
    assert bpf.run(default, number("clone"), (0x3D0F00,)) == bpf.ALLOW


def test_clone3_seems_not_to_be_there(default: bytes) -> None:
    assert bpf.run(default, number("clone3")) == ENOSYS


@pytest.mark.parametrize("family", [1, 2, 10, 16, 17, 37, 39, 41, 43, 44, 45])
def test_socket_families(default: bytes, family: int) -> None:
    assert bpf.run(default, number("socket"), (family,)) == bpf.ALLOW


@pytest.mark.parametrize("family", [38, 40, 38 | 1 << 32, 40 | 1 << 63])
def test_no_crypto_or_hypervisor_sockets_whatever_the_upper_half_says(default: bytes, family: int) -> None:
    assert bpf.run(default, number("socket"), (family,)) == EPERM


@pytest.mark.parametrize(
    ("persona", "verdict"), [(0, "allow"), (8, "allow"), (0xFFFFFFFF, "allow"), (0x40000, "refuse")]
)
def test_personality(default: bytes, persona: int, verdict: str) -> None:
    assert bpf.run(default, number("personality"), (persona,)) == (bpf.ALLOW if verdict == "allow" else EPERM)


def test_calls_from_the_future_are_unknown(default: bytes) -> None:
    assert bpf.run(default, 480) == ENOSYS
    assert bpf.run(default, 5000) == ENOSYS
    assert bpf.run(default, -1) == ENOSYS


def test_the_other_abis_are_filtered_alike(default: bytes) -> None:
    mount_32 = number("mount", pyseccomp.Arch.X86)
    assert bpf.run(default, mount_32, architecture=X86) == EPERM
    assert bpf.run(default, number("read", pyseccomp.Arch.X86), architecture=X86) == bpf.ALLOW
    assert bpf.run(default, 120, (0x10000000,), architecture=X86) == EPERM  # clone, new user namespace
    assert bpf.run(default, 359, (38,), architecture=X86) == EPERM  # socket, directly
    assert bpf.run(default, number("mount") | X32_BIT) == EPERM
    assert bpf.run(default, number("read") | X32_BIT) == bpf.ALLOW
    assert bpf.run(default, 520 | X32_BIT) == bpf.ALLOW  # x32's own execve


def test_an_abi_that_the_profile_does_not_know_is_the_end(default: bytes) -> None:
    assert bpf.run(default, 0, architecture=AARCH64) == bpf.KILL_THREAD


def test_arm64_and_its_32_bit_abi() -> None:
    program = seccomp.compile_profile(seccomp.default_profile(), DEFAULT, "aarch64")
    assert bpf.run(program, number("mount", pyseccomp.Arch.AARCH64), architecture=AARCH64) == EPERM
    assert bpf.run(program, number("openat", pyseccomp.Arch.AARCH64), architecture=AARCH64) == bpf.ALLOW
    assert bpf.run(program, number("set_tls", pyseccomp.Arch.ARM), architecture=ARM) == bpf.ALLOW
    assert bpf.run(program, number("mount", pyseccomp.Arch.ARM), architecture=ARM) == EPERM


def _by_libseccomp(profile: Profile, archs: list[int]) -> bytes:
    """The same rules, compiled by libseccomp; profiles without conditions on capabilities and the like."""
    scmp = pyseccomp.SyscallFilter(pyseccomp.ERRNO(1))
    if pyseccomp.system_arch() != archs[0]:
        scmp.add_arch(archs[0])
        scmp.remove_arch(pyseccomp.system_arch())
    for arch in archs[1:]:
        scmp.add_arch(arch)
    operators = {"NE": 1, "LT": 2, "LE": 3, "EQ": 4, "GE": 5, "GT": 6, "MASKED_EQ": 7}
    for rule in profile.syscalls or ():
        action = pyseccomp.ALLOW if rule.action == "SCMP_ACT_ALLOW" else pyseccomp.ERRNO(rule.errno_ret or 1)
        conditions = [
            pyseccomp.Arg(a.index, operators[a.op.removeprefix("SCMP_CMP_")], a.value, a.value_two)
            for a in rule.args or ()
        ]
        for name in rule.all_names():
            if pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name) != -1:
                scmp.add_rule(action, name, *conditions)
    with open(os.memfd_create("bpf"), "w+b") as file:
        scmp.export_bpf(file)
        file.seek(0)
        return file.read()


def _is_known(call: int, arch: int) -> bool:
    try:
        pyseccomp.resolve_syscall(arch, call | (X32_BIT if arch == pyseccomp.Arch.X32 else 0))
    except ValueError:
        return False
    return True


def _unconditional_part(profile: Profile) -> Profile:
    rules = tuple(r for r in profile.syscalls or () if not r.includes and not r.excludes)
    return Profile("SCMP_ACT_ERRNO", 1, arch_map=profile.arch_map, syscalls=rules)


@pytest.mark.parametrize(
    ("machine", "archs", "abis"),
    [
        (
            "x86_64",
            [pyseccomp.Arch.X86_64, pyseccomp.Arch.X86, pyseccomp.Arch.X32],
            [(X86_64, 0), (X86, 0), (X86_64, X32_BIT)],
        ),
        ("aarch64", [pyseccomp.Arch.AARCH64, pyseccomp.Arch.ARM], [(AARCH64, 0), (ARM, 0)]),
    ],
)
def test_our_compiler_agrees_with_libseccomp(machine: str, archs: list[int], abis: list[tuple[int, int]]) -> None:
    profile = _unconditional_part(seccomp.default_profile())
    ours, theirs = seccomp.compile_profile(profile, (), machine), _by_libseccomp(profile, archs)
    for arch, bit in abis:
        for call in range(560):
            for first in (0, 1, 2, 8, 38, 39, 40, 64, 0x20008, 0xFFFFFFFF):
                verdict = bpf.run(ours, call | bit, (first,), arch)
                if verdict == ENOSYS:  # beyond what the profile names; libseccomp would refuse
                    verdict = EPERM
                if arch == X86_64 and not _is_known(call, pyseccomp.Arch.X32 if bit else pyseccomp.Arch.X86_64):
                    continue  # of the numbers that only one of x86-64 and x32 has, we treat both alike
                assert verdict == bpf.run(theirs, call | bit, (first,), arch), (hex(arch), call | bit, first)


@pytest.mark.parametrize("op", ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"])
@pytest.mark.parametrize("value", [0, 5, 1 << 32, (1 << 32) + 5, (1 << 64) - 1])
def test_conditions_compare_all_64_bits_as_libseccomp_does(op: str, value: int) -> None:
    rule = Rule("SCMP_ACT_ALLOW", ("mount",), args=(Argument(1, f"SCMP_CMP_{op}", value, value & 0x1_0000_0005),))
    profile = Profile("SCMP_ACT_ERRNO", 1, syscalls=(rule,))
    ours, theirs = seccomp.compile_profile(profile, (), "x86_64"), _by_libseccomp(profile, [pyseccomp.Arch.X86_64])
    for argument in (0, 1, 4, 5, 6, 1 << 32, (1 << 32) + 4, (1 << 32) + 5, (1 << 32) + 6, 1 << 33, (1 << 64) - 1):
        verdict = bpf.run(ours, number("mount"), (7, argument))
        assert verdict == bpf.run(theirs, number("mount"), (7, argument)), hex(argument)


def test_conditions_on_several_arguments_must_all_hold() -> None:
    both = (Argument(0, "SCMP_CMP_EQ", 3), Argument(2, "SCMP_CMP_GT", 9))
    program = seccomp.compile_profile(
        Profile("SCMP_ACT_ERRNO", 1, syscalls=(Rule("SCMP_ACT_ALLOW", ("mount",), args=both),)), (), "x86_64"
    )
    assert bpf.run(program, number("mount"), (3, 0, 10)) == bpf.ALLOW
    assert bpf.run(program, number("mount"), (3, 0, 9)) == EPERM
    assert bpf.run(program, number("mount"), (4, 0, 10)) == EPERM


def test_two_conditions_on_one_argument_are_alternatives() -> None:
    either = (Argument(0, "SCMP_CMP_EQ", 3), Argument(0, "SCMP_CMP_EQ", 4))
    program = seccomp.compile_profile(
        Profile("SCMP_ACT_ERRNO", 1, syscalls=(Rule("SCMP_ACT_ALLOW", ("mount",), args=either),)), (), "x86_64"
    )
    assert [bpf.run(program, number("mount"), (n,)) for n in (2, 3, 4)] == [EPERM, bpf.ALLOW, bpf.ALLOW]


def test_a_rule_without_conditions_outweighs_those_with() -> None:
    rules = (
        Rule("SCMP_ACT_ALLOW", ("mount",), args=(Argument(0, "SCMP_CMP_EQ", 3),)),
        Rule("SCMP_ACT_ERRNO", ("mount",), errno_ret=22),
    )
    program = seccomp.compile_profile(Profile("SCMP_ACT_KILL_PROCESS", syscalls=rules), (), "x86_64")
    assert bpf.run(program, number("mount"), (3,)) == bpf.ERRNO | 22


def test_socketcall_is_opened_for_what_is_allowed_through_it() -> None:
    profile = Profile(
        "SCMP_ACT_ERRNO",
        1,
        arch_map=(Architecture("SCMP_ARCH_X86_64", ("SCMP_ARCH_X86",)),),
        syscalls=(Rule("SCMP_ACT_ALLOW", ("connect", "semget")),),
    )
    program = seccomp.compile_profile(profile, (), "x86_64")
    assert bpf.run(program, 102, (3,), X86) == bpf.ALLOW
    assert bpf.run(program, 102, (1,), X86) == EPERM
    assert bpf.run(program, 362, (), X86) == bpf.ALLOW
    assert bpf.run(program, 117, (2,), X86) == bpf.ALLOW
    assert bpf.run(program, 117, (3,), X86) == EPERM


def test_a_profile_that_allows_by_default_knows_no_unknown_calls() -> None:
    profile = Profile("SCMP_ACT_ALLOW", syscalls=(Rule("SCMP_ACT_ERRNO", ("mkdir",), errno_ret=13),))
    program = seccomp.compile_profile(profile, (), "x86_64")
    assert bpf.run(program, number("mkdir")) == bpf.ERRNO | 13
    assert bpf.run(program, 9999) == bpf.ALLOW


def test_a_users_profile_in_dockers_format() -> None:
    text = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "comment": "ignored",
        "syscalls": [
            {"name": "chmod", "action": "SCMP_ACT_ERRNO", "args": None},
            {"names": ["fchmod"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5, "args": [], "includes": {}},
            {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "includes": {"minKernel": "999.0"}},
            {"names": ["rmdir"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
        ],
    }
    profile = seccomp.load_profile(json.dumps(text))
    program = seccomp.compile_profile(profile, (), "x86_64")
    assert bpf.run(program, number("chmod")) == EPERM
    assert bpf.run(program, number("fchmod")) == bpf.ERRNO | 5
    assert bpf.run(program, number("mkdir")) == bpf.ALLOW
    assert bpf.run(program, number("rmdir")) == EPERM
    assert bpf.run(seccomp.compile_profile(profile, {"CAP_SYS_ADMIN"}, "x86_64"), number("rmdir")) == bpf.ALLOW


def test_an_empty_profile_is_no_filter() -> None:
    assert seccomp.compile_profile(seccomp.load_profile("{}")) == b""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "Decoding seccomp profile failed"),
        ("{", "Decoding seccomp profile failed"),
        ('{"defaultAction": 3}', "Decoding seccomp profile failed"),
        ('{"architectures": ["SCMP_ARCH_X86"], "archMap": [{"architecture": "SCMP_ARCH_X86_64"}]}', "both 'arch"),
        ('{"syscalls": [{"name": "a", "names": ["b"], "action": "SCMP_ACT_ALLOW"}]}', "both 'name'"),
        ('{"listenerPath": "/x"}', "listenerPath"),
        ('{"flags": ["SECCOMP_FILTER_FLAG_LOG"]}', "SECCOMP_FILTER_FLAG_LOG"),
    ],
)
def test_profiles_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        seccomp.load_profile(text)


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        (Profile("SCMP_ACT_SING"), "SCMP_ACT_SING"),
        (Profile("SCMP_ACT_ERRNO", architectures=("SCMP_ARCH_VAX",)), "SCMP_ARCH_VAX"),
        (Profile("SCMP_ACT_ERRNO", syscalls=(Rule("SCMP_ACT_NOTIFY", ("read",)),)), "SCMP_ACT_NOTIFY"),
        (
            Profile("SCMP_ACT_ERRNO", syscalls=(Rule("SCMP_ACT_ALLOW", ("a",), args=(Argument(0, "=", 1),)),)),
            "operator =",
        ),
        (
            Profile(
                "SCMP_ACT_ERRNO", syscalls=(Rule("SCMP_ACT_ALLOW", ("a",), args=(Argument(6, "SCMP_CMP_EQ", 1),)),)
            ),
            "argument 6",
        ),
        (
            Profile("SCMP_ACT_ERRNO", syscalls=(Rule("SCMP_ACT_ALLOW", ("a",), includes=Condition(min_kernel="5")),)),
            "invalid kernel version",
        ),
    ],
)
def test_profiles_that_cannot_be_compiled(profile: Profile, message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        seccomp.compile_profile(profile, (), "x86_64")


def test_an_unknown_machine_is_told_what_to_do() -> None:
    with pytest.raises(ProfileError, match="seccomp=unconfined"):
        seccomp.compile_profile(seccomp.default_profile(), (), "vax")


def test_without_libseccomp_the_user_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyseccomp", None)
    profile = Profile("SCMP_ACT_ERRNO", 42, syscalls=(Rule("SCMP_ACT_ALLOW", ("read",)),))
    with pytest.raises(ProfileError, match="apt install libseccomp2"):
        seccomp.compile_profile(profile)


def test_who_only_installs_loads_neither_libseccomp_nor_the_lists() -> None:
    script = "import sys, wherry.linux.seccomp; print([m for m in sys.modules if 'seccomp' in m])"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "['wherry.linux.seccomp']"


def test_compiling_twice_is_compiling_once() -> None:
    first = seccomp.compile_profile(seccomp.default_profile(), DEFAULT)
    assert seccomp.compile_profile(seccomp.default_profile(), list(DEFAULT)) is first
