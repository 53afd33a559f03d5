"""The locks: every version is pinned and hashed, and is that of the constraints."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LOCKS = ["environment", "oldest", "peers", "zoo"]
UNLOCKED = ["torch", "torchvision", "ffmpeg-python"]
REQUIREMENT = re.compile(r"([\w.-]+)==([^\s;]+)")


def entries(lock):
    """The lines of each requirement in a lock."""
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    lines = [line for line in text.replace("\\\n", "").splitlines() if not line.startswith("#")]
    assert lines
    return lines


def pins(path):
    """By normalised name, the versions of a file."""
    versions = {}
    for line in path:
        if match := REQUIREMENT.match(line):
            name = re.sub(r"[-_.]+", "-", match[1]).lower()
            versions.setdefault(name, set()).add(match[2])
    return versions


@pytest.mark.parametrize("lock", LOCKS)
def test_every_requirement_has_a_version_and_hashes(lock):
    for entry in entries(lock):
        assert REQUIREMENT.match(entry), entry
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry
        assert "://" not in entry
    assert not pins(entries(lock)).keys() & set(UNLOCKED)


@pytest.mark.parametrize("lock", LOCKS)
def test_the_locks_have_the_versions_of_the_constraints(lock):
    name = "constraints-oldest.txt" if lock == "oldest" else "constraints.txt"
    constraints = pins((ROOT / name).read_text().splitlines())
    locked = pins(entries(lock))
    for package in constraints.keys() & locked.keys():
        assert constraints[package] <= locked[package], package


def test_every_constraint_is_locked():
    locked = set().union(*(pins(entries(lock)) for lock in LOCKS))
    constraints = pins((ROOT / "constraints.txt").read_text().splitlines())
    assert constraints.keys() - locked == {"torch", "torchvision"}


def test_installation_checks_hashes():
    makefile = (ROOT / "Makefile").read_text()
    for lock in ("environment", "peers", "zoo"):
        assert f"$(LOCKED) requirements/{lock}.txt" in makefile
    assert "--require-hashes" in makefile
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert "--require-hashes --requirement requirements/oldest.txt" in workflow
    actions = re.findall(r"uses: (.+)", workflow)
    assert actions
    for action in actions:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}  # v[\d.]+", action), action
