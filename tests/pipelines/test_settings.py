from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
import yaml

from pipelines.errors import SettingsError
from pipelines.settings import DEFAULT_PARAMS, load_settings


def test_every_key_of_the_file_is_commented() -> None:
    """A key carries a comment itself, or its block does, or its twin in another unit (ticks, atr)."""
    open_blocks: list[tuple[int, bool]] = []
    bare, commented = [], set()
    for line in DEFAULT_PARAMS.read_text().splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        indent = len(line) - len(line.lstrip())
        key, has_comment = line.strip().split(":")[0], "#" in line
        open_blocks = [block for block in open_blocks if block[0] < indent]
        if line.split("#")[0].rstrip().endswith(":"):
            open_blocks.append((indent, has_comment))
        elif has_comment:
            commented.add(key)
        elif not any(block[1] for block in open_blocks):
            bare.append(key)
    assert [key for key in bare if key not in commented] == []


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("replay.size=two", "replay.size = 'two': Input should be a valid integer"),
        ("replay.size=1.0", "replay.size = 1.0: Input should be a valid integer"),
        ("gates.skill_confidence=1.5", "gates.skill_confidence = 1.5: Input should be less than 1"),
        ("replay.entry_open='25:00'", "replay.entry_open = '25:00'"),
        ("replay.flat_by='09:00'", "entry_open < entry_close < flat_by must hold"),
        ("splits.test_share=0.5", "shares sum to 1.3"),
        ("baseline.confluence_weights.level_proximity=0.5", "confluence_weights sum to 1.442"),
        ("baseline.vikings_bars=120", "replay.warmup_bars is 50; the baseline looks back 120 bars"),
        ("instrument.symbol=CL", "instrument.symbol = 'CL'"),
    ],
)
def test_a_wrong_value_is_refused_with_its_path(override: str, text: str) -> None:
    with pytest.raises(SettingsError, match="remedy") as caught:
        load_settings(overrides=[override])
    assert text in str(caught.value)


@pytest.mark.parametrize("override", ["replay.sized=1", "nonsense.key=1", "replay", "=3", "replay.size.deep=1"])
def test_an_unknown_key_on_the_command_line_is_refused(override: str) -> None:
    with pytest.raises(SettingsError):
        load_settings(overrides=[override])


def test_unknown_and_missing_keys_in_the_file_are_refused_with_their_path(tmp_path: Path) -> None:
    raw = yaml.safe_load(DEFAULT_PARAMS.read_text())
    raw["replay"]["slipage_ticks"] = 2
    del raw["train"]["linear"]["c"]
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(SettingsError) as caught:
        load_settings(path)
    assert "replay.slipage_ticks: unknown key (value 2)" in str(caught.value)
    assert "train.linear.c: missing key" in str(caught.value)


@pytest.mark.parametrize("content", ["a: [", "just text", ""])
def test_a_file_that_is_not_settings_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(content)
    with pytest.raises(SettingsError):
        load_settings(path)


def test_the_fingerprint_follows_the_values_not_the_layout(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(DEFAULT_PARAMS.read_text()), sort_keys=True))
    assert load_settings(path).fingerprint() == load_settings().fingerprint()
    changed = load_settings(overrides=["train.linear.c=0.2"])
    assert changed.fingerprint() != load_settings().fingerprint()
    assert changed.fingerprint("features", "splits") == load_settings().fingerprint("features", "splits")


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("train.families=[xgboost, linear]", "simplest first: ['linear', 'xgboost']"),
        ("train.families=[linear, linear]", "each at most once"),
        ("train.families=[]", "train.families"),
        ("train.families=[boosting]", "train.families"),
        ("train.ensemble.weights.linear=0.5", "the members' weights sum to 1.3; they must sum to 1"),
        ("train.lstm.device=tpu", "train.lstm.device = 'tpu'"),
    ],
)
def test_families_are_named_in_order_and_weights_sum_to_one(override: str, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(overrides=[override])
    assert text in str(caught.value)


def test_clock_times_need_no_quotes(tmp_path: Path) -> None:
    # `dvc exp run -S` writes the file anew and leaves them out; YAML 1.1 would read 15:45 as 945.
    text = DEFAULT_PARAMS.read_text()
    assert '"15:45"' in text
    path = tmp_path / "params.yaml"
    path.write_text(text.replace('"15:45"', "15:45"))
    assert load_settings(path).fingerprint() == load_settings().fingerprint()
    assert load_settings(overrides=["replay.entry_close=15:30"]).replay.entry_close == dt.time(15, 30)
