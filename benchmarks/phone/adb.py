"""The phone at the other end of the cable, by Android's own program `adb`.

    phone = find_phone(serial=None)
    phone.push([Path("model.json")], "/sdcard/Android/data/dev.afterlens/files/bundles/udc")
    phone.shell("rm", "-rf", "/sdcard/Android/data/dev.afterlens/files/bundles/udc")

Whatever adb says when something is wrong becomes one line, a `UserError`.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from afterlens.training.media.errors import UserError

ANSWER = 60.0
"""Seconds for a command that moves nothing."""

TRANSFER = 900.0
"""Seconds for files of 100 MB through a slow cable, and for an installation that the phone asks about."""

_REMEDIES = {
    "unauthorized": "unlock it and allow USB debugging for this computer",
    "offline": "it does not answer; unplug it and plug it in again",
    "no permissions": "this user may not use the USB device; see developer.android.com on udev rules",
    "recovery": "it is in recovery mode; start Android",
    "bootloader": "it is in its bootloader; start Android",
    "sideload": "it waits for an update; start Android",
}


@dataclass(frozen=True)
class Phone:
    """One connected device."""

    program: str
    serial: str

    def shell(self, *words: str) -> str:
        """Run a command on the phone and return what it printed. Raises UserError where it fails."""
        return self._run("shell", shlex.join(words))

    def script(self, text: str) -> str:
        """The same for a line of the phone's shell. What it quotes is the caller's business."""
        return self._run("shell", text)

    def push(self, files: Sequence[Path], folder: str) -> None:
        """Copy files into a folder of the phone, which must be there."""
        self._run("push", *map(str, files), f"{folder}/", timeout=TRANSFER)

    def pull(self, file: str, target: Path) -> None:
        """Copy a file of the phone to `target`."""
        self._run("pull", file, str(target), timeout=TRANSFER)

    def install(self, apk: Path) -> None:
        """Install an app, or replace it and keep its data."""
        self._run("install", "-r", str(apk), timeout=TRANSFER)

    def require(self) -> None:
        """Raise UserError where the phone is not there any more."""
        state = _states(self.program).get(self.serial)
        if state != "device":
            raise UserError(
                f"lost the phone {self.serial} ({state or 'unplugged'}); check the cable, and run again"
            )

    def _run(self, verb: str, *arguments: str, timeout: float = ANSWER) -> str:
        try:
            done = _adb(self.program, "-s", self.serial, verb, *arguments, timeout=timeout)
        except subprocess.TimeoutExpired:
            self.require()
            raise UserError(
                f"the phone {self.serial} did not answer `adb {verb}` within {timeout:g} s"
            ) from None
        if done.returncode != 0:
            self.require()
            raise UserError(f"adb {verb}: {_last_line(done)}")
        return done.stdout


def find_phone(serial: str | None) -> Phone:
    """The phone of this serial number, or the only one. Raises UserError where it is not clear, or not ready."""
    program = shutil.which("adb")
    if program is None:
        raise UserError("no program `adb` is on PATH: install it (Debian: apt install adb)")
    states = _states(program)
    listed = ", ".join(f"{name} ({state})" for name, state in states.items()) or "none"
    if serial is None and len(states) > 1:
        raise UserError(f"{len(states)} phones are connected: {listed}; choose one with --serial")
    if not states or (serial is not None and serial not in states):
        wanted = "no phone" if serial is None else f"no phone {serial}"
        raise UserError(f"{wanted} is connected (adb lists: {listed}); plug it in and allow USB debugging")
    chosen = serial or next(iter(states))
    state = states[chosen]
    if state != "device":
        remedy = _REMEDIES.get(state, "expected one that is ready")
        raise UserError(f"the phone {chosen} cannot be used ({state}): {remedy}")
    return Phone(program, chosen)


def _states(program: str) -> dict[str, str]:
    """What `adb devices` lists: "device" is ready, "unauthorized", "offline" and so on are not."""
    try:
        done = _adb(program, "devices", timeout=ANSWER)
    except subprocess.TimeoutExpired:
        raise UserError(f"`adb devices` did not answer within {ANSWER:g} s; try `adb kill-server`") from None
    if done.returncode != 0:
        raise UserError(f"adb devices: {_last_line(done)}")
    states = {}
    for line in done.stdout.splitlines():
        serial, tab, state = line.partition("\t")
        if tab:
            # "no permissions (user in plugdev group; are your udev rules wrong?); see [http://...]"
            states[serial] = state.partition("(")[0].strip()
    return states


def _adb(program: str, *arguments: str, timeout: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
    )


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    """Why adb failed. It begins lines about its own server with a star."""
    lines = [line.strip() for line in (done.stdout + "\n" + done.stderr).splitlines()]
    lines = [line for line in lines if line and not line.startswith("*")]
    return lines[-1] if lines else f"ended with {done.returncode}"
