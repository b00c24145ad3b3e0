"""Make a small root file system as a tar: a static busybox under all its names, and the files that programs look for.

``python scripts/busybox_image.py BUSYBOX TAR``. The same busybox gives the same bytes.
"""

import io
import subprocess
import sys
import tarfile
from pathlib import Path

DIRECTORIES = {"bin": 0o755, "dev": 0o755, "etc": 0o755, "home": 0o755, "proc": 0o755, "root": 0o700, "sys": 0o755,
               "tmp": 0o1777, "usr": 0o755, "usr/bin": 0o755, "var": 0o755, "var/tmp": 0o1777}  # fmt: skip
FILES = {
    "etc/group": "root:x:0:\nwww-data:x:33:\nadm:x:4:www-data\nusers:x:100:\nnogroup:x:65534:\n",
    "etc/issue": "wherry's busybox \\n \\l\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n"
    "www-data:x:33:33:www-data:/var/www:/bin/false\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    "etc/shadow": "root:*::0:::::\n",
}


def main(busybox: Path, tar: Path) -> None:
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()
    part = tar.with_name(tar.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(part, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, mode in DIRECTORIES.items():
            _add(archive, name, tarfile.DIRTYPE, mode=mode)
        for name, text in FILES.items():
            _add(archive, name, tarfile.REGTYPE, mode=0o640 if name == "etc/shadow" else 0o644, data=text.encode())
        _add(archive, "bin/busybox", tarfile.REGTYPE, mode=0o755, data=busybox.read_bytes())
        for applet in sorted(set(applets) - {"busybox"}):
            _add(archive, f"bin/{applet}", tarfile.LNKTYPE, link="bin/busybox")
        _add(archive, "usr/bin/env", tarfile.SYMTYPE, link="../../bin/env")
    part.replace(tar)


def _add(
    archive: tarfile.TarFile, name: str, kind: bytes, *, mode: int = 0o755, data: bytes = b"", link: str = ""
) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.size, member.linkname = kind, mode, len(data), link
    archive.addfile(member, io.BytesIO(data))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
