"""What can go wrong, named by what the caller does about it.

One base for each subsystem. What a program needs to decide is an attribute; `str(error)` is one line for people
that names the thing and says what to do.
"""


class PortwatchError(Exception):
    """The base of everything that portwatch raises on purpose."""


# --- the command line and the configuration: tell the operator and stop ------------------------------------------


class ConfigurationError(PortwatchError):
    """A value that cannot be used. The operator mends it; exit status 2."""

    def __init__(self, source: str, key: str, value: object, expected: str) -> None:
        self.source, self.key, self.value, self.expected = source, key, value, expected
        super().__init__(f"{source}: {key} = {value!r}: expected {expected}")


class IdentityTaken(PortwatchError):
    """Another living agent owns this host name; exit status 3."""


class AddressTaken(IdentityTaken):
    """The name is ours, and another living host has this tunnel address; exit status 3, too."""


# --- input from outside: count it, name it, change nothing -------------------------------------------------------


class Refused(PortwatchError):
    """A message from the bus that is not what the contract says. `reason` is a short code, the metric's label.

    `detail` is one printable line, though it may repeat what came: it is logged, shown and published.
    """

    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, printable(detail)
        super().__init__(f"{reason}: {self.detail}")


def printable(text: str) -> str:
    """Return *text* as one line that moves no terminal and may stand in an event."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


# --- OVSDB -------------------------------------------------------------------------------------------------------


class OvsdbError(PortwatchError):
    """The base of what OVSDB does to us."""


class OvsdbUnavailable(OvsdbError):
    """No answer from ovsdb-server: weather. Try again; a transaction under way may or may not have been applied."""


class TransactionFailed(OvsdbError):
    """ovsdb-server refused a transaction: ours to mend. The database is unchanged."""


# --- the bus -----------------------------------------------------------------------------------------------------


class BusError(PortwatchError):
    """The base of what the broker does to us."""


class BusUnavailable(BusError):
    """The connection is not there, or was lost: weather. Connect again."""


class BusRefused(BusError):
    """The broker is there and refuses this topic or filter (MQTT 5 reason code of 0x80 and above), and *others*."""

    ASKED = ""

    def __init__(self, topic: str, code: int, words: str) -> None:
        self.topic, self.code, self.words = topic, code, words
        self.others: tuple[str, ...] = ()
        super().__init__(
            f"the broker refused {self.ASKED} {topic}: {words} ({code:#04x}); check its access control list"
        )

    @property
    def topics(self) -> tuple[str, ...]:
        """All that was refused at once."""
        return (self.topic, *self.others)


class PublishRefused(BusRefused):
    """A publication was refused."""

    ASKED = "to take"


class SubscribeRefused(BusRefused):
    """A subscription was refused."""

    ASKED = "a subscription to"


# --- the switch --------------------------------------------------------------------------------------------------


class SwitchError(PortwatchError):
    """The base of what the switch, or ovs-ofctl, does to us."""

    def __init__(self, bridge: str, detail: str) -> None:
        self.bridge, self.detail = bridge, detail
        super().__init__(f"{bridge}: {detail}")


class SwitchUnavailable(SwitchError):
    """No OpenFlow connection, nothing was sent: weather. Try again."""


class OutcomeUnknown(SwitchError):
    """A bundle was sent and no answer came: it may stand or not. Read the switch back."""


class BundleRejected(SwitchError):
    """The switch refused the bundle and kept what it had. `code` is OpenFlow's, `culprit` its words on the message."""

    def __init__(self, bridge: str, code: str, culprit: str) -> None:
        self.code, self.culprit = code, culprit
        super().__init__(bridge, f"the switch refused the bundle: {code} for {culprit}")


class BundleInvalid(SwitchError):
    """ovs-ofctl could not read line `line` (from 1) of our text: ours to mend. Nothing was sent."""

    def __init__(self, bridge: str, line: int, detail: str) -> None:
        self.line = line
        super().__init__(bridge, f"line {line}: {detail}")
