"""What an importer writes about another's network: read as it is meant, or refused with all that is wrong."""

from pathlib import Path

import pytest

from engine.checkpoints.import_contract import ImportContract, ImportContractError, read_contract
from engine.records.contract import SignalContract
from engine.sources.publishers import PTB_XL

LEAST = 'leads = ["I", "II"]\nfs = 100\nseconds = 10\n'


def read(folder: Path, text: str) -> ImportContract:
    (folder / "theirs.toml").write_text(text)
    return read_contract(folder / "theirs.toml")


def refused(folder: Path, text: str, *says: str) -> None:
    with pytest.raises(ImportContractError) as raised:
        read(folder, text)
    said = str(raised.value)
    assert said.startswith(f"{folder / 'theirs.toml'}")
    assert "\n" not in said
    for words in says:
        assert words in said, said


def test_the_least_is_leads_rate_and_length(tmp_path: Path):
    found = read(tmp_path, LEAST)
    assert found.signal == SignalContract(("I", "II"), 100.0, 1000)
    assert (found.standardisation.mean, found.standardisation.std) == ((0.0, 0.0), (1.0, 1.0))
    assert (found.classes, found.task, found.citation, found.n_records, found.trained_on) == (
        None,
        None,
        None,
        None,
        (),
    )


def test_everything_is_read(tmp_path: Path):
    found = read(
        tmp_path,
        'leads = ["DI", "MDC_ECG_LEAD_V1"]\nfs = 400.0\nsamples = 800\ncrops = true\nscaling = "lead"\n'
        'classes = ["AF", "LBBB"]\ntask = "rhythm"\ncitation = "Somebody 2025"\nn_records = 5\n'
        '[[trained_on]]\nname = "ptb-xl"\npart = "fold 1"\n[[trained_on]]\nname = "ours"\nurl = "https://x.org"\n',
    )
    assert found.signal == SignalContract(("I", "V1"), 400.0, 800, 800, "lead")
    assert (found.classes, found.task, found.citation, found.n_records) == (
        ("AF", "LBBB"), "rhythm", "Somebody 2025", 5,
    )  # fmt: skip
    assert found.trained_on == ({**PTB_XL._asdict(), "part": "fold 1"}, {"name": "ours", "url": "https://x.org"})


def test_one_number_or_one_a_lead_scales(tmp_path: Path):
    found = read(tmp_path, f"{LEAST}mean = [0.1, -0.2]\nstd = 0.001\n").standardisation
    assert (found.mean, found.std) == ((0.1, -0.2), (0.001, 0.001))


def test_all_that_is_wrong_is_said_in_one_sentence(tmp_path: Path):
    refused(
        tmp_path, 'leads = ["I", "V9"]\nfs = 99.5\nscaling = "mean"\nlabels = 3\n[[trained_on]]\nurl = "x"\n',
        "labels is none of leads, fs,", "leads names V9, which is none of I, II", "fs is not a whole number of 50 to",
        "seconds or samples is needed", "scaling is none of set, record, lead", "name is missing in trained_on 1",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ('leads = []\nfs = 100\nseconds = 10', "leads is not a list of the names of the leads"),
        ('leads = ["I", "DI"]\nfs = 100\nseconds = 10', "leads names one twice"),
        ('leads = "I"\nfs = 100\nseconds = 10', "leads is not a list"),
        ('leads = [1]\nfs = 100\nseconds = 10', "leads is not text of 1 to 2,000 characters"),
        ('fs = 100\nseconds = 10', "leads is missing"),
        ('leads = ["I"]\nfs = true\nseconds = 10', "fs is not a number"),
        ('leads = ["I"]\nfs = nan\nseconds = 10', "fs is not a number"),
        ('leads = ["I"]\nfs = 5000\nseconds = 10', "fs is not a whole number of 50 to 1000 Hz"),
        ('leads = ["I"]\nfs = 100\nseconds = 10\nsamples = 1000', "seconds or samples is needed, one of them"),
        ('leads = ["I"]\nfs = 100\nseconds = 0.5', "seconds 0.5 at 100 Hz is not a whole number of samples"),
        ('leads = ["I"]\nfs = 100\nseconds = 1.7e308', "is not a whole number of samples of 1 to 120 s"),
        ('leads = ["I"]\nfs = 400\nseconds = 1.2345', "is not a whole number of samples"),
        ('leads = ["I"]\nfs = 100\nsamples = -1', "is not a whole number of samples of 1 to 120 s"),
        (f'{LEAST}crops = "yes"', "crops is neither true nor false"),
        (f'{LEAST}scaling = ["set"]', "scaling is none of"),
        (f'{LEAST}scaling = "lead"\nstd = 2', "std is for scaling set, not lead"),
        (f"{LEAST}std = 0", "std has a number that is not above 0"),
        (f"{LEAST}mean = [1]", "mean has 1 numbers for 2 leads"),
        (f'{LEAST}mean = ["a", "b"]', "mean is not a number"),
        (f'{LEAST}classes = ["a", "a"]', "classes names one twice"),
        (f"{LEAST}classes = []", "classes is not a list of the names of the outputs"),
        (f'{LEAST}task = " "', "task is not text of 1 to 2,000 characters"),
        (f'{LEAST}citation = "{"a" * 3000}"', "citation is not text of 1 to 2,000 characters"),
        (f"{LEAST}n_records = {10**400}", "n_records is not a whole number above 0"),
        (f"{LEAST}std = {10**400}", "std is not a number"),
        (f"{LEAST}n_records = 0", "n_records is not a whole number above 0"),
        (f"{LEAST}n_records = 1.5", "n_records is not a whole number above 0"),
        (f'{LEAST}trained_on = "ptb-xl"', "trained_on is not a list of tables"),
        (f'{LEAST}[[trained_on]]\nname = "a"\nfold = "1"', "fold is none of name, version, licence, url"),
        (f"{LEAST}[[trained_on]]\nname = 3", "name is not text of 1 to 2,000 characters in trained_on 1"),
        ("leads = [", "is not a contract: "),
        ('{"leads": ["I"]}', "is not a contract: "),
        ("[" * 100_000, "is not a contract: "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(changed: str, says: str, tmp_path: Path):
    refused(tmp_path, changed, says)


def test_bytes_that_are_no_text_and_files_that_are_none_are_refused(tmp_path: Path):
    path = tmp_path / "theirs.toml"
    path.write_bytes(b"task = '\xff'")
    with pytest.raises(ImportContractError, match="byte 9 of it is not text in UTF-8"):
        read_contract(path)
    for other in (tmp_path, tmp_path / "nowhere.toml"):
        with pytest.raises(ImportContractError, match=f"cannot read {other}"):
            read_contract(other)
