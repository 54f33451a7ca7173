"""What surrounds the stages of a run."""

from __future__ import annotations

from distributed import Client

from batchflow.pipeline import recorded


def test_dasks_report_of_a_client_that_is_not_the_default(tmp_path):
    path = tmp_path / "performance.html"
    with (
        Client(processes=False, n_workers=1, dashboard_address=":0", set_as_default=False) as client,
        recorded(client, path),
    ):
        assert client.submit(sum, [1, 2]).result() == 3
        assert not path.exists()
    assert "<html" in path.read_text(encoding="utf-8")
