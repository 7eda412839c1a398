"""Why something does not run as it might, and what to change so that it does."""

from __future__ import annotations


class Reason(str):
    """A reason in words that knows its remedy.

    An f-string or a slice of a reason is plain text: `about` puts something in front of one and keeps the rest.

    Parameters
    ----------
    text : str
    remedy : str
        What to change, in one line; `{code}` stands for how the part that was called is written. Empty where no change
        of the user's would help.
    where : str
        Where the user's code is at fault, as `source_line` tells it, or file and line alone; empty where it is not.
    of_device : bool
        Whether it says that a backend is for another kind of device than the one that the call is on.

    Attributes
    ----------
    remedy : str
    where : str
        File and line.
    of_device : bool
    """

    remedy: str
    where: str
    of_device: bool

    def __new__(cls, text: str = "", remedy: str = "", where: str = "", of_device: bool = False) -> Reason:
        """Make a reason."""
        reason = super().__new__(cls, text)
        reason.remedy = remedy
        reason.where = where.rpartition(" in ")[0] or where
        reason.of_device = of_device
        return reason

    @classmethod
    def of(cls, text: str, remedy: str = "", where: str = "") -> Reason:
        """Return a text as a reason: itself if it is one.

        Parameters
        ----------
        text, remedy, where : str
            See the class.
        """
        return text if isinstance(text, Reason) else cls(text, remedy, where)

    @classmethod
    def ending(cls, what: str, remedy: str) -> Reason:
        """Return a reason whose text ends in its remedy.

        Parameters
        ----------
        what, remedy : str
        """
        return cls(f"{what}; {remedy}", remedy)

    def about(self, subject: str, where: str | None = None) -> Reason:
        """Return the reason with what it is about in front of it.

        Parameters
        ----------
        subject : str
        where : str, optional
            Where in the user's code that is; it stands in the text too.
        """
        place = "" if where is None else f" ({where})"
        return Reason(f"{subject}{place} {self}", self.remedy, where or self.where, self.of_device)

    def change(self, code: str) -> str:
        """Return what to change, and where; empty without a remedy.

        Parameters
        ----------
        code : str
            How the part that was called is written in Python.
        """
        line = self.remedy.replace("{code}", code)
        return f"{self.where}: {line}" if line and self.where else line
