"""How a command ended, and which ends are none that a command may have."""

import dataclasses
import re
import signal

# What nobody should ever see, on either stream and in any log.
_BROKEN = re.compile(
    r"Traceback \(most recent|Exception ignored|Fatal Python error|Segmentation fault"
    r"|^(?:\S+:\d+: )?\w*[a-z]Warning: |terminate called"
    r"|^\s*File \".*\", line \d+|^[EF]\d{4} \d\d:",
    re.MULTILINE,
)
# That of a user's own code is named, after its file and line.
_EXCEPTION = re.compile(r"(?<!\.py:\d: )(?<!\.py:\d\d: )\b[A-Z][A-Za-z]+(Error|Exception)\b")


class Fault(Exception):  # noqa: N818 (it is what we look for)
    """A try that ended as none may end."""


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        arguments: the command line without the program.
        code: the exit code; negative where a signal ended it, as subprocess has it.
        stdout: what it printed.
        stderr: what it printed there.
        sent: the signals that were sent to it before it ended.
        late: whether it was stopped here because it did not end.
    """

    arguments: tuple[str, ...]
    code: int
    stdout: str
    stderr: str
    sent: tuple[int, ...] = ()
    late: bool = False

    def outcome(self) -> str:
        """Returns "success", "refused" or "signal".

        Raises:
            Fault: it ended in another way.
        """
        if self.late:
            raise Fault("it did not end; its threads were there:\n" + self.stderr[-3000:])
        # Ctrl-C while Python itself starts, before the first line of this program runs.
        starting = self.stderr.endswith("KeyboardInterrupt\n") and "/cnn_jax/" not in self.stderr
        if starting and signal.SIGINT in self.sent and self.code in (1, -signal.SIGINT):
            return "signal"
        for stream in (self.stderr, self.stdout):
            if line := broken(stream):
                last = stream.strip().splitlines()[-1]
                raise Fault(f"it printed {line!r} ... {last!r} (code {self.code})")
        errors = [line for line in self.stderr.splitlines() if line.startswith("error: ")]
        signals = {code for number in self.sent for code in (-number, 128 + number)}
        if self.code == 0 and not errors:
            return "success"
        if self.code in signals:
            return "signal"
        if self.code in (1, 2) and len(errors) == 1:
            if found := _EXCEPTION.search(errors[0]):
                raise Fault(f"its error line has an exception's name, {found[0]}: {errors[0]}")
            return "refused"
        raise Fault(f"exit code {self.code} with {len(errors)} error lines: {self.stderr[-500:]!r}")


def broken(text: str) -> str | None:
    """Returns the first line of a text that nobody should ever see, or None."""
    found = _BROKEN.search(text)
    return text[found.start() :].strip().splitlines()[0] if found else None
