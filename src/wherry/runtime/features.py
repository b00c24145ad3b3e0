"""What this runtime can do, as the OCI runtime specification's features document says it."""

from typing import Any

from wherry.linux import capabilities, mounts, namespaces, seccomp_compiler, seccomp_profile
from wherry.runtime.hooks import VERSION

_OLDEST = "1.0.0"
_NAMES = {"mnt": "mount", "net": "network"}


def describe() -> dict[str, Any]:
    """Clients look in it for recursive read-only mounts: "rro"."""
    return {
        "ociVersionMin": _OLDEST,
        "ociVersionMax": VERSION,
        "hooks": ["createContainer"],
        "mountOptions": sorted(mounts.option_names()),
        "linux": {
            "namespaces": sorted(_NAMES.get(kind, kind) for kind in namespaces.FLAGS if kind != "user"),
            "capabilities": list(capabilities.NAMES),
            "cgroup": {"v1": True, "v2": True, "systemd": False, "systemdUser": False, "rdma": False},
            "seccomp": {
                "enabled": True,
                "actions": sorted((*seccomp_compiler.ACTIONS, *seccomp_compiler.ACTIONS_WITH_NUMBER)),
                "operators": sorted(seccomp_compiler.CONDITIONS),
                "archs": _architectures(),
            },
            "apparmor": {"enabled": False},
            "selinux": {"enabled": False},
            "intelRdt": {"enabled": False},
        },
        "annotations": {},
    }


def _architectures() -> list[str]:
    found = seccomp_profile.SUB_ARCHITECTURES
    return sorted({*found, *(name for others in found.values() for name in others)})
