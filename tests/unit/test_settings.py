"""Settings come from the environment, contradict nobody, and never tell a secret."""

from __future__ import annotations

import io
import json
import logging
import pickle
import traceback
from pathlib import Path

import pytest
from rich.console import Console
from rich.pretty import pretty_repr

from options_agent.errors import DataError, OptionsAgentError, SettingsError
from options_agent.lake.receipts import fingerprint
from options_agent.settings import Settings, load_settings

SECRET = "hunter2pass"
SECRETS = {
    "OPTIONS_AGENT_S3_ACCESS_KEY_ID": f"id-{SECRET}",
    "OPTIONS_AGENT_S3_SECRET_ACCESS_KEY": f"key-{SECRET}",
    "OPTIONS_AGENT_POSTGRES_URL": f"postgresql://desk:{SECRET}@127.0.0.1/dagster",
    "OPTIONS_AGENT_ALERTS__URLS": f'["tgram://{SECRET}/1", "mailto://desk:{SECRET}@example.org"]',
    "OPTIONS_AGENT_MLFLOW_TRACKING_URI": f"https://desk:{SECRET}@tracking.example.org",
    "OPTIONS_AGENT_S3_ENDPOINT_URL": f"https://desk:{SECRET}@store.example.org:9000",
    "OPTIONS_AGENT_DAGSTER_URL": f"https://:{SECRET}@runs.example.org",
    "OPTIONS_AGENT_LAKE_ROOT": f"s3://id:{SECRET}@bucket/lake",
    "OPTIONS_AGENT_ARCHIVE_ROOT": f"s3://id:{SECRET}@again@bucket/archive",
}


@pytest.fixture
def desk_with_secrets(monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    return load_settings(_env_file=None)


def test_no_way_of_printing_settings_tells_a_secret(desk_with_secrets: Settings, caplog: pytest.LogCaptureFixture) -> None:
    settings = desk_with_secrets
    with caplog.at_level(logging.INFO):
        logging.getLogger("desk").info("%s %r", settings, settings)
    console = Console(width=400, file=io.StringIO(), record=True)
    console.print(settings)
    printed = [
        str(settings),
        repr(settings),
        f"{settings}",
        repr(settings.alerts),
        pretty_repr(settings),
        console.export_text(),
        caplog.text,
        settings.model_dump_json(),
        json.dumps(settings.model_dump(mode="json")),
        str(settings.model_dump()),
        fingerprint(settings),
    ]
    assert all(printed)
    assert not [text for text in printed if SECRET in text]


def test_the_values_themselves_are_whole_for_those_who_connect(desk_with_secrets: Settings) -> None:
    settings = desk_with_secrets
    assert settings.storage_options["secret"] == f"key-{SECRET}"
    assert settings.mlflow_tracking_uri == SECRETS["OPTIONS_AGENT_MLFLOW_TRACKING_URI"]
    assert settings.lake_url == SECRETS["OPTIONS_AGENT_LAKE_ROOT"]
    assert settings.postgres_url is not None
    assert settings.postgres_url.get_secret_value().endswith("/dagster")


def test_urls_without_a_password_print_as_they_are() -> None:
    settings = load_settings(_env_file=None, s3_endpoint_url="http://127.0.0.1:8333", lake_root="s3://lake/a@b:c@d")
    assert "http://127.0.0.1:8333" in repr(settings)
    assert settings.model_dump(mode="json")["lake_root"] == "s3://lake/a@b:c@d"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OPTIONS_AGENT_ALERTS__URLS", f"tgram://{SECRET}"),
        ("OPTIONS_AGENT_ALERTS", f'{{"urls": "{SECRET}"}}'),
        ("OPTIONS_AGENT_ALERTS", f'{{"address": ["{SECRET}"]}}'),
        ("OPTIONS_AGENT_ALERTS", f'{{"gap_grace_minutes": "{SECRET}"}}'),
        ("OPTIONS_AGENT_INTERVAL_MINUTES", SECRET),
    ],
)
def test_no_error_about_a_setting_tells_its_value(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        load_settings(_env_file=None)
    shown = "".join(traceback.format_exception(caught.value))
    assert SECRET not in shown
    assert "Remedy" in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("OPTIONS_AGENT_UNDERLYINGS", "BTC,ETH", "underlyings"),
        ("OPTIONS_AGENT_NETWORK", "main", "network"),
        ("OPTIONS_AGENT_INTERVAL_MINUTES", "0", "interval_minutes"),
        ("OPTIONS_AGENT_REGION", "eu west", "region"),
        ("OPTIONS_AGENT_BACKTEST__CAPITAL_COIN", "-1", "backtest.capital_coin"),
        ("OPTIONS_AGENT_QUALITY__SMILE_ZET", "3", "quality.smile_zet"),
        ("OPTIONS_AGENT_HISTORY_START", "yesterday", "history_start"),
    ],
)
def test_a_setting_that_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, named: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=named.replace(".", r"\.")):
        load_settings(_env_file=None)


@pytest.mark.parametrize(
    ("source", "network"), [("synthetic", "mainnet"), ("synthetic", "testnet"), ("recorded", "synthetic"), ("tardis", "synthetic")]
)
def test_a_source_of_another_network_is_refused(source: str, network: str) -> None:
    with pytest.raises(SettingsError, match=r"does not belong to network.*OPTIONS_AGENT_SOURCE and OPTIONS_AGENT_NETWORK"):
        load_settings(source=source, network=network, _env_file=None)


@pytest.mark.parametrize(
    ("network", "url"),
    [
        ("mainnet", "https://test.deribit.com"),
        ("testnet", "https://www.deribit.com"),
        ("synthetic", "https://www.deribit.com"),
        ("synthetic", "https://exchange.example"),
    ],
)
def test_an_exchange_of_another_network_is_refused(network: str, url: str) -> None:
    with pytest.raises(SettingsError, match=f"the network is {network}"):
        load_settings(source="deribit", network=network, deribit={"url": url}, _env_file=None)


def test_the_network_alone_picks_host_and_key() -> None:
    keys = {name: {"client_id": name, "client_secret": "s"} for name in ("mainnet", "testnet", "synthetic")}
    for network, host in (
        ("mainnet", "https://www.deribit.com"),
        ("testnet", "https://test.deribit.com"),
        ("synthetic", "http://127.0.0.1:8765"),
    ):
        settings = load_settings(source="deribit", network=network, deribit=keys, _env_file=None)
        assert settings.exchange_url == host
        assert settings.exchange_credentials.client_id == network


def test_networks_share_no_path_of_state_or_reports(tmp_path: Path) -> None:
    desks = [load_settings(source="recorded", network=n, home=tmp_path, _env_file=None) for n in ("mainnet", "testnet")]
    desks.append(load_settings(home=tmp_path, _env_file=None))
    assert len({d.state_dir for d in desks}) == len({d.reports_dir for d in desks}) == 3


def test_the_environment_nests_with_double_underscores_and_overrides_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTIONS_AGENT_BACKTEST__CAPITAL_COIN", "2.5")
    monkeypatch.setenv("OPTIONS_AGENT_UNDERLYINGS", '["XRP_USDC"]')
    assert load_settings(_env_file=None).backtest.capital_coin == 2.5
    assert load_settings(_env_file=None).underlyings == ("XRP_USDC",)
    assert load_settings(_env_file=None, underlyings=("BTC",)).underlyings == ("BTC",)


def test_a_dotenv_file_is_read(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("OPTIONS_AGENT_REGION=frankfurt\nOTHER_PROGRAM=1\n")
    assert load_settings(_env_file=dotenv).region == "frankfurt"


def test_home_is_absolute_so_that_every_process_finds_the_same_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings(home="desk", _env_file=None).home == tmp_path / "desk"


def test_settings_cannot_be_changed_and_survive_a_process_boundary(settings: Settings) -> None:
    with pytest.raises(ValueError, match="frozen"):
        settings.region = "elsewhere"
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_an_error_names_the_thing_the_place_and_the_remedy() -> None:
    error = DataError("no strike", place="a.csv, row 3", remedy="add one")
    assert str(error) == "no strike [at a.csv, row 3] Remedy: add one"
    assert isinstance(error, OptionsAgentError)
    assert (error.message, error.place, error.remedy) == ("no strike", "a.csv, row 3", "add one")


def test_a_storage_class_is_one_the_archive_can_be_read_from_at_once() -> None:
    assert load_settings(archive_root="gs://bucket/x", archive_storage_class="COLDLINE", _env_file=None).archive_storage_class == "COLDLINE"
    for root, chosen in (("s3://bucket/x", "DEEP_ARCHIVE"), ("gs://bucket/x", "GLACIER_IR"), (None, "STANDARD_IA")):
        with pytest.raises(SettingsError, match="cannot be read at once"):
            load_settings(archive_root=root, archive_storage_class=chosen, _env_file=None)


def test_each_stores_options_go_to_it_alone() -> None:
    settings = load_settings(gcs_token="/keys/desk.json", s3_access_key_id="key", s3_secret_access_key="secret", _env_file=None)
    assert settings.options_for("gs://bucket/x") == {"token": "/keys/desk.json"}
    assert settings.options_for("s3://bucket/x") == {"key": "key", "secret": "secret"}
    assert settings.options_for("/a/folder") == {}
