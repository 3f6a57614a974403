"""The public sets that ``ecgadvise data list`` names and ``data fetch`` downloads, and which of their files are needed.

Slugs and versions are those of PhysioNet's project pages. PhysioNet serves each published version, unchanging, at
``https://physionet.org/files/SLUG/VERSION/`` with a ``SHA256SUMS.txt``. ``size`` is worked out from the WFDB format
(records x leads x samples x 2 bytes) where every record has the same form, else it is what a catalogue says.

Patterns are those of ``fnmatch`` over the path inside the set, in which ``*`` also spans folders.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.sources.publishers import (
    BRUGADA_HUCA,
    CHAGAS_2025,
    CHALLENGE_2011,
    CHALLENGE_2015,
    CHALLENGE_2017,
    CHALLENGE_2021,
    CODE_TEST,
    LUDB,
    PTB,
    PTB_XL,
    Publication,
)
from models.errors import ExitCode, UserError

_LICENCES = {
    "CC BY 4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC BY-SA 4.0": "https://creativecommons.org/licenses/by-sa/4.0/",
    "ODC-By 1.0": "https://opendatacommons.org/licenses/by/1-0/",
}


class SelectionError(UserError, ValueError):
    """A set, or a part of one, that is not on offer; one sentence says what is."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True)
class PublishedSet:
    """One version of a public set, and which of its files the reader of that set needs.

    ``slug`` is its name on PhysioNet, None for a set that lies elsewhere. ``include`` is always needed;
    ``include_fs`` maps a sampling frequency (Hz) to what it adds, the first one being the default.
    """

    publication: Publication
    records: int
    size: str
    slug: str | None = None
    include: tuple[str, ...] = ("LICENSE*",)
    include_fs: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name here."""
        return self.publication.name

    @property
    def version(self) -> str:
        """The publisher's version."""
        return self.publication.version

    @property
    def licence(self) -> str:
        """The licence of its records."""
        return self.publication.licence

    @property
    def citation(self) -> str:
        """What to cite."""
        return self.publication.citation

    @property
    def url(self) -> str:
        """Where the publisher presents the set."""
        return self.publication.url

    @property
    def files_url(self) -> str | None:
        """Where its files and their SHA256SUMS.txt lie; None for a publisher that lists no checksums to verify."""
        return f"https://physionet.org/files/{self.slug}/{self.version}" if self.slug else None

    @property
    def fetchable(self) -> bool:
        """Whether ``data fetch`` can download it."""
        return self.files_url is not None

    @property
    def licence_url(self) -> str:
        """Where the licence's text is."""
        return _LICENCES[self.licence]

    def patterns(self, fs: int | None = None, everything: bool = False) -> tuple[str, ...]:
        """Return the patterns of the files to fetch, at ``fs`` Hz (None: the default) or all of them.

        Raises SelectionError when the set does not come at that sampling frequency.
        """
        if fs is not None and fs not in self.include_fs:
            offered = " or ".join(str(one) for one in self.include_fs)
            raise SelectionError(
                f"{self.name} does not come at {fs} Hz: choose --fs {offered}"
                if offered
                else f"{self.name} comes at one sampling frequency only: leave out --fs"
            )
        if everything:
            return ("*",)
        default = next(iter(self.include_fs), None)
        chosen = fs if fs is not None else default
        return self.include + (self.include_fs[chosen] if chosen is not None else ())


PUBLISHED: Mapping[str, PublishedSet] = {
    one.name: one
    for one in (
        PublishedSet(
            publication=PTB_XL,
            slug="ptb-xl",
            records=21_799,
            size="0.5 GB at 100 Hz, 2.6 GB at 500 Hz",
            include=("LICENSE*", "RECORDS", "ptbxl_database.csv", "scp_statements.csv"),
            include_fs={100: ("records100/*",), 500: ("records500/*",)},
        ),
        PublishedSet(
            publication=CHALLENGE_2017,
            slug="challenge-2017",
            records=8_528,
            size="0.2 GB",
            # The validation folder repeats 300 of the training records, and the zip files repeat both.
            include=("LICENSE*", "REFERENCE-v3.csv", "training/*"),
        ),
        PublishedSet(
            publication=LUDB,
            slug="ludb",
            records=200,
            size="24 MB",
            # Next to each record lie twelve files of wave annotations, which no task here uses.
            include=("LICENSE*", "RECORDS", "ludb.csv", "data/*.hea", "data/*.dat"),
        ),
        PublishedSet(
            publication=CHALLENGE_2021,
            slug="challenge-2021",
            records=88_253,
            size="more than 9 GB",
            include=("LICENSE*", "RECORDS", "dx_mapping*", "training/*"),
        ),
        PublishedSet(
            publication=PTB,
            slug="ptbdb",
            records=549,
            size="1.7 GB",
            include=("LICENSE*", "RECORDS", "CONTROLS", "patient*"),
        ),
        PublishedSet(
            publication=BRUGADA_HUCA,
            slug="brugada-huca",
            records=363,
            size="10 MB",
            # files.zip repeats the records.
            include=("LICENSE*", "README*", "RECORDS", "metadata*.csv", "files/*.hea", "files/*.dat"),
        ),
        PublishedSet(
            publication=CHALLENGE_2011,
            slug="challenge-2011",
            records=1_000,
            size="0.1 GB",
            # Set b has no labels, the .txt files repeat the records as text and the archives repeat all.
            include=("LICENSE*", "set-a/RECORDS*", "set-a/*.hea", "set-a/*.dat"),
        ),
        PublishedSet(
            publication=CHALLENGE_2015,
            slug="challenge-2015",
            records=750,
            size="more than 0.3 GB",  # 750 records of at least three signals, 5 min at 250 Hz
            include=("LICENSE*", "training/ALARMS", "training/RECORDS", "training/*.hea", "training/*.mat"),
        ),
        PublishedSet(
            publication=CHAGAS_2025,
            # 345,779 of CODE-15%, a few of which have no Chagas label, 1,631 of SaMi-Trop and 21,799 of PTB-XL.
            records=369_209,
            size="not known",
        ),
        PublishedSet(
            publication=CODE_TEST,
            records=827,
            size="not known",
        ),
    )
}


def find_published(name: str) -> PublishedSet:
    """Return the set of that name, ours or PhysioNet's. Raises SelectionError for one that is not in the table."""
    for one in PUBLISHED.values():
        if name in (one.name, one.slug):
            return one
    raise SelectionError(f"there is no set {name!r}: choose one of {', '.join(PUBLISHED)}")
