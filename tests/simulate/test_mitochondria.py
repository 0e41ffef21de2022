"""The network: what is counted of it, against counting pieces of its drawn outline."""

from __future__ import annotations

from itertools import pairwise

import networkx
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from livestain.simulate import CellKind
from livestain.simulate.cells import GLASS_UM, Cell
from livestain.simulate.kinds import Mitochondria
from livestain.simulate.mitochondria import STEP_UM, Network

Array = NDArray[np.float64]


def rest(x: Array, y: Array) -> tuple[Array, Array]:
    return x, y


def everywhere(x: Array, y: Array) -> NDArray[np.bool_]:
    return np.ones(x.shape, np.bool_)


def network(seed: int = 0, **kind: object) -> Network:
    """Tubes that begin 20 um apart and go straight, so that none touches another by chance."""
    settings: dict[str, object] = {
        "number": (16, 16), "turning": 0.0, "branching": 0.0, "rounded": 0.0, "wander_um": 0.0, **kind
    }  # fmt: skip
    return Network(
        np.random.default_rng(seed),
        Mitochondria.model_validate(settings),
        begin=lambda n: np.stack([20.0 * (np.arange(n) % 4), 20.0 * (np.arange(n) // 4)]),
        heading=lambda x, y: np.zeros(len(x)),
        blocked=lambda x, y: np.zeros(x.shape, np.bool_),
        thickness=lambda x, y: np.full(x.shape, 4.0),
        glass_um=GLASS_UM,
    )


def pieces(one: Network, time_s: float) -> int:
    """Count the pieces of the outline drawn at 0.05 um."""
    x, y, _, _ = one.outline(time_s, rest)
    i, j = (np.rint((a + 15) / 0.05).astype(int) for a in (x, y))
    drawn = np.zeros((i.max() + 3, j.max() + 3), np.bool_)
    drawn[i, j] = True
    # Points are 2 pixels apart; where a tube has divided there are 6 or more between its ends.
    return int(ndimage.label(ndimage.binary_dilation(drawn, np.ones((3, 3))), np.ones((3, 3)))[1])


def steady(one: Network, time_s: float) -> bool:
    """Whether no gap is about to open or close, which would be smaller than the drawing tells."""
    widths = one._opened(time_s)
    return not np.any((widths > 0) & (widths < 1.5 * STEP_UM))


def test_what_hangs_together_is_one_mitochondrion() -> None:
    one = network(number=(5, 5), length_um=6.0, length_spread=0.2)
    times = [float(t) for t in np.arange(0.0, 3000.0, 10.0) if steady(one, float(t))]
    counts = [one.numbers(t, rest, everywhere).number for t in times]
    assert counts == [pieces(one, t) for t in times]
    assert len(counts) > 20
    assert min(np.diff(counts)) < 0 < max(np.diff(counts)), "they fuse, and they divide"


def test_a_branch_is_of_its_tube_until_it_lets_go() -> None:
    """Against the points themselves: neighbours along a tube, and a branch's first with the tube's."""
    one = network(number=(6, 6), branching=0.5, length_um=6.0, length_spread=0.2)
    xyz = np.stack([one._x, one._y, one._z])
    counts = []
    for time_s in (float(t) for t in np.arange(0.0, 3000.0, 10.0)):
        if not steady(one, time_s):
            continue
        there = np.flatnonzero(one._share(one._opened(time_s)) > 0.5)
        links = []
        for a, b in pairwise(there):
            if one._owner[a] == one._owner[b] and one._s[b] - one._s[a] < 1.5 * STEP_UM:
                links.append((a, b))
        for a in there[(one._s[there] == 0) & (one._owner[there] != one._root[there])]:
            tube = np.flatnonzero(one._owner == one._root[a])
            links.append((a, tube[np.argmin(((xyz[:, tube] - xyz[:, [a]]) ** 2).sum(0))]))
        graph = networkx.Graph(links)
        graph.add_nodes_from(there)
        counts.append(networkx.number_connected_components(graph))
        assert one.numbers(time_s, rest, everywhere).number == counts[-1]
    assert len(set(counts)) > 2


def test_the_length_is_that_of_all_tubes_less_the_gaps() -> None:
    one = network(length_um=6.0)
    whole = len(one._s) * STEP_UM
    lengths = [one.numbers(float(t), rest, everywhere).length_um for t in range(0, 600, 20)]
    assert max(lengths) <= whole + 1e-9
    assert 0.5 * whole < min(lengths) < max(lengths)
    x = one.outline(100.0, rest)[0]
    assert one.numbers(100.0, rest, everywhere).length_um == pytest.approx(len(x) * STEP_UM)


def test_only_what_is_inside_counts() -> None:
    one = network()
    assert one.numbers(0.0, rest, lambda x, y: x < -100.0) == (0.0, 0)
    left = one.numbers(0.0, rest, lambda x, y: x < 30.0)
    right = one.numbers(0.0, rest, lambda x, y: x >= 30.0)
    both = one.numbers(0.0, rest, everywhere)
    assert left.length_um + right.length_um == pytest.approx(both.length_um)
    assert left.number + right.number == both.number


def test_diameters_are_those_of_mitochondria() -> None:
    one = network(number=(60, 60), diameter_um=0.6, diameter_spread=0.6, rounded=0.5)
    _, _, _, radius = one.outline(0.0, rest)
    assert radius.min() >= 0.15
    assert radius.max() <= 0.4


def test_the_membrane_is_labelled_around_the_tube() -> None:
    kind = {"label": "membrane", "diameter_um": 0.7, "diameter_spread": 0.0, "length_um": 8.0}
    middle, wall = network(**kind).blobs(0.0, rest)
    assert not middle.label.any()
    assert not wall.path.any()
    matrix = network(**{**kind, "label": "matrix"}).blobs(0.0, rest)[0]
    np.testing.assert_allclose(wall.label.sum(), matrix.label.sum())
    off = [getattr(wall, a).reshape(-1, len(middle.x)) - getattr(middle, a) for a in "xyz"]
    ring = np.sqrt(sum(a**2 for a in off))
    np.testing.assert_allclose(ring, 0.35, atol=1e-6)


def test_branches_wander_with_their_tube() -> None:
    one = network(branching=0.5, wander_um=1.0)
    x0, y0 = one._places(0.0, rest)
    for time_s in (50.0, 400.0):
        x1, y1 = one._places(time_s, rest)
        moved = np.hypot(x1 - x0, y1 - y0)
        assert moved.max() > 0.2
        for root in np.unique(one._root):
            np.testing.assert_allclose(moved[one._root == root], moved[one._root == root][0])


def test_no_tube_enters_the_nucleus_or_leaves_the_cell() -> None:
    cell = Cell(5, CellKind(), 0, 0)
    x, y = cell.network._x, cell.network._y
    assert np.mean(cell.rho(x, y) > 1.0) < 0.02
    assert np.mean(cell.nucleus_rho(x, y) < 0.95) < 0.02
    assert np.all(cell.network._z > GLASS_UM)
