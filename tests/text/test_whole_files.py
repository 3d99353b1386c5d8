"""Files are replaced as a whole or not at all."""

import pytest

from bayes_moe.text.whole_files import replacing


def test_a_file_is_replaced_when_all_is_written(tmp_path):
    target = tmp_path / "file"
    target.write_text("old")
    with replacing(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert [*tmp_path.iterdir()] == [target]


def test_a_file_stays_after_an_error(tmp_path):
    target = tmp_path / "file"
    target.write_text("old")

    def write_half():
        with replacing(target) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert target.read_text() == "old"
    assert [*tmp_path.iterdir()] == [target]
