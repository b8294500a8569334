import pytest

from spikerecon.errors import UsageError
from spikerecon.windows import centers, check_center, parse_moment, parse_range


@pytest.mark.parametrize(
    ("planes", "options", "wanted"),
    [
        (101, {}, [30, 50, 70]),
        (60, {}, [30]),
        (110, {}, [30, 50, 70]),
        (110, {"end": 101}, [30, 50, 70]),
        (111, {"step": 40}, [30, 70]),
        (101, {"start": 5, "end": 66, "step": 1}, [35, 36]),
        (101, {"after": 31}, [30, 50, 70]),
        (100, {"after": 31}, [30, 50]),
        (None, {"end": 101}, [30, 50, 70]),
    ],
)
def test_centers(planes, options, wanted):
    assert list(centers(planes, **options)) == wanted


def test_every_window_fits_and_one_more_would_not():
    for planes in range(60, 150):
        for window in (60, 61):
            if planes >= window:
                found = centers(planes, step=7, after=window - 30)
                assert found[0] - 30 == 0
                assert found[-1] - 30 + window <= planes < found[-1] + 7 - 30 + window


def test_centers_of_a_stream_go_on():
    found = centers(None, start=10, step=20)
    assert (found[0], found[1], len(found) > 10**15) == (40, 60, True)


@pytest.mark.parametrize(
    ("planes", "options", "wanted"),
    [
        (101, {"step": 0}, "step 0 is out of range"),
        (101, {"step": 10**400}, "step 1000.* is out of range"),
        (101, {"start": -1}, "planes -1 to 101 are no range"),
        (101, {"start": 50, "end": 50}, "planes 50 to 50 are no range"),
        (101, {"end": 102}, "end 102 is out of range: this recording has 101 planes"),
        (101, {"start": 50}, "planes 50 to 101 are 51, fewer than one window of 60"),
        (60, {"after": 31}, "fewer than one window of 61"),
    ],
)
def test_centers_refuses(planes, options, wanted):
    with pytest.raises(UsageError, match=wanted):
        centers(planes, **options)


def test_check_center():
    for center in (30, 71):
        check_center(center, 101, 30, 30)
    check_center(70, 101, 30, 31)
    check_center(10**9, None, 30, 30)
    wanted = r"^center 5 is out of range: this recording of 101 planes takes centers 30 to 71$"
    with pytest.raises(UsageError, match=wanted) as caught:
        check_center(5, 101, 30, 30)
    assert caught.value.exit_status == 2
    with pytest.raises(UsageError, match="center 72 is out of range"):
        check_center(72, 101, 30, 30)
    with pytest.raises(UsageError, match="takes centers 30 to 70"):
        check_center(71, 101, 30, 31)
    with pytest.raises(UsageError, match="center 29 is out of range: centers start at 30"):
        check_center(29, None, 30, 30)
    with pytest.raises(UsageError, match="60 planes has no center: a window takes 61"):
        check_center(30, 60, 30, 31)


def test_check_center_of_a_part():
    check_center(70, 101, 30, 30, start=40, end=100)
    with pytest.raises(UsageError, match="center 71 is out of range: planes 40 to 100 take centers 70 to 70"):
        check_center(71, 101, 30, 30, start=40, end=100)
    with pytest.raises(UsageError, match="planes 41 to 100 have no center: a window takes 60"):
        check_center(71, 101, 30, 30, start=41, end=100)
    with pytest.raises(UsageError, match="center 60 is out of range: centers start at 70"):
        check_center(60, None, 30, 30, start=40)


def test_parse_range():
    assert parse_range("30:100:20") == range(30, 100, 20)


@pytest.mark.parametrize("text", ["", "30", "30:100", "30:100:0", "100:30:5", "a:b:c", "-1:5:1", "1:2:3:4"])
def test_parse_range_refuses(text):
    with pytest.raises(UsageError, match="is not START:STOP:STEP"):
        parse_range(text)


@pytest.mark.parametrize(
    ("text", "plane"),
    [("1200", 1200), ("0", 0), ("0.5s", 20000), ("12.5ms", 500), (".1 ms", 4), ("1.s", 40000), ("0.3ms", 12)],
)
def test_parse_moment(text, plane):
    assert parse_moment(text, 40000) == plane


@pytest.mark.parametrize("text", ["", "1.5", "-3", "5us", "s", "1e3", "1m s", "0x10", "٣"])
def test_parse_moment_refuses(text):
    with pytest.raises(UsageError, match="neither a plane nor a time"):
        parse_moment(text, 40000)
