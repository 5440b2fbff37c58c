from __future__ import annotations

from psycopg import conninfo

from taskqueue_mcp.store.postgres import address


def test_what_libpq_is_told_reaches_it_as_it_was_written() -> None:
    told = address.read("postgresql://me@host/queue?options=-c%20work_mem%3D1MB&application_name=a+b%26c&pool=3")
    known = conninfo.conninfo_to_dict(told.dsn)
    assert known["options"] == "-c work_mem=1MB"
    assert known["application_name"] == "a b&c"
    assert "pool" not in known
    assert told.pool == 3


def test_a_silent_network_is_noticed_unless_the_url_says_otherwise() -> None:
    assert conninfo.conninfo_to_dict(address.read("postgresql://host/queue").dsn)["tcp_user_timeout"] == "20000"
    told = address.read("postgresql://host/queue?tcp_user_timeout=5000")
    assert conninfo.conninfo_to_dict(told.dsn)["tcp_user_timeout"] == "5000"
