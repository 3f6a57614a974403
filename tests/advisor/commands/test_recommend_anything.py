"""``recommend`` driven with arbitrary arguments and arbitrarily damaged curves files: an answer or one sentence."""

import copy
import json
import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from studies.files.draws_codec import read_draws

SCHEMA = jsonschema.Draft202012Validator(
    json.loads((Path(__file__).parents[3] / "advisor" / "recommendation.schema.json").read_text())
)
_DRAWS = 30

sensible = {
    "n-records": st.integers(20, 9000),
    "arch": st.sampled_from(["cnn", "rnn", "resnet1d18-w16", "gru-w32"]),
    "upstream": st.sampled_from(["none", "ptb-xl", "ptb-xl/non-diagnostic"]),
    "task": st.just("ptb-xl/superclass"),
    "metric": st.just("auroc_macro"),
    "margin": st.floats(1e-6, 0.9),
    "target": st.floats(0.51, 0.999),
    "label-cost": st.floats(0, 1e12),
    "gpu-cost": st.floats(0, 1e12),
    "uses": st.integers(1, 10**12),
    "device-speed": st.floats(1e-6, 1e12),
    "report": st.sampled_from(["page.html", "page.html", "page.htm", "none/page.html", "page.pdf"]),
    "plot": st.sampled_from(["none/plot.png", "plot.pdf", "page.html", "plot.svg"]),
}
nonsense = st.one_of(
    st.sampled_from(["", "nan", "inf", "-inf", "0", "-1", "1e999", "0x10", "[/x]", "--json", "none", "../..", "\x00"]),
    st.integers().map(str),
    st.floats().map(repr),
    st.text(max_size=20),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=4,
)


@pytest.fixture(scope="session")
def document(curves_path: Path) -> dict[str, Any]:
    """A whole curves file, a pooled curve in it, with few draws, so that reading it takes little."""
    whole: dict[str, Any] = json.loads(curves_path.read_text())
    pool = {"pooled": True, "tasks": ["ptb-xl/superclass", "ptb-xl/form", "ludb"], "task": "pooled", "points": {}}
    whole["curves"].append({**copy.deepcopy(whole["curves"][0]), **pool})
    for curve in whole["curves"]:
        for draws in curve["draws"].values():
            bend = np.frombuffer(b64decode(draws["bend"]), "<i2").reshape(len(draws["nodes"]), -1)[:, :_DRAWS]
            numbers = read_draws(draws)
            draws.update({name: numbers[name][:_DRAWS].tolist() for name in ("a", "b", "c", "n0")})
            draws["bend"] = b64encode(bend.tobytes()).decode()
    return whole


@pytest.fixture(scope="session")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged") / "curves.json"


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory):
    """A folder of its own: what is asked for is written where the command runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("place"))
        yield


def ends_well(command: Callable[..., Any], arguments: list[str]) -> None:
    """Assert an answer that follows the schema, or one sentence and an exit code that blames the input."""
    page = Path("page.html")
    page.unlink(missing_ok=True)
    code, out, err = command("recommend", *arguments)
    assert page.exists() == ("report: page.html" in err or "plot: page.html" in err)
    if "report: page.html" in err:
        assert page.read_text(encoding="utf-8").endswith("</html>\n")
    if code == 0 and {"--help", "-h"} & set(arguments):
        assert "Usage: ecgadvise recommend" in out
    elif code != 0:
        assert code in {2, 3, 4} or (code == 1 and "cannot write" in err), (code, err)
        assert out == ""
        assert re.fullmatch(r"error: .+\n", err), err
    elif "--json" in arguments:
        SCHEMA.validate(json.loads(out, parse_constant=pytest.fail))
    else:
        assert not re.search(r"\b(inf|nan) (s|min|h)\b|[\d,.]{17,} h\b", out), out
        assert "--explain" in arguments or len(out.splitlines()) <= 25


@st.composite
def questions(draw: st.DrawFn, spoilt: bool = True) -> list[str]:
    """Arguments of which some are nonsense."""
    names = draw(st.sets(st.sampled_from(sorted(sensible)), max_size=6)) | {"n-records"}
    values = {name: nonsense if spoilt and draw(st.integers(0, 5)) == 0 else sensible[name] for name in names}
    words = [word for name, value in values.items() for word in (f"--{name}", str(draw(value)))]
    return words + draw(st.lists(st.sampled_from(["--json", "--explain"]), max_size=2, unique=True))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(arguments=questions(), extra=st.lists(nonsense, max_size=1))
def test_any_arguments_end_in_an_answer_or_a_sentence(
    arguments: list[str], extra: list[str], command: Callable[..., Any], document: dict[str, Any], damaged: Path
):
    damaged.write_text(json.dumps(document))
    ends_well(command, [*arguments, *extra, "--curves", str(damaged)])


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_damage_to_a_curves_file_ends_in_an_answer_or_a_sentence(
    data: st.DataObject, command: Callable[..., Any], document: dict[str, Any], damaged: Path
):
    spoilt = copy.deepcopy(document)
    for _ in range(data.draw(st.integers(1, 3))):
        _damage(spoilt, data)
    text = json.dumps(spoilt)
    if data.draw(st.integers(0, 9)) == 0:
        cut = data.draw(st.integers(0, len(text)))
        text = text[:cut] + data.draw(st.text(max_size=5))
    damaged.write_bytes(text.encode("utf-8", "surrogatepass"))
    ends_well(command, [*data.draw(questions(spoilt=False)), "--curves", str(damaged)])


def _damage(node: Any, data: st.DataObject) -> None:
    """Delete, replace or repeat something at a random place of a JSON document, in place."""
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return
        key = data.draw(st.sampled_from(keys))
        if isinstance(node[key], dict | list) and node[key] and data.draw(st.integers(0, 4)):
            node = node[key]
            continue
        action = data.draw(st.sampled_from(["delete", "replace", "scale"]))
        if action == "delete":
            del node[key]
        elif action == "replace":
            node[key] = data.draw(json_values)
        elif isinstance(node[key], int | float) and not isinstance(node[key], bool):
            node[key] *= data.draw(st.sampled_from([-1, 0, 1e-9, 10, 10**9, 1e300]))
        return
