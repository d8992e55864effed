"""Settings: one typed object read from the environment and `.env`; secrets are never printed.

Every variable starts with `OPTIONS_AGENT_`; nested ones join with a double underscore, for instance
`OPTIONS_AGENT_BACKTEST__CAPITAL_COIN=2`. The network decides host, lake paths and state: mixing is refused.
"""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_serializer, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableSetting

from options_agent.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

Network = Literal["mainnet", "testnet", "synthetic"]
SourceName = Literal["synthetic", "recorded", "lake", "deribit", "tardis"]

#: Sources whose data go on as time does; of the others nothing new is expected.
LIVE_SOURCES: Final = ("synthetic", "deribit")
#: Storage classes an object can be read from at once, by the archive's scheme. S3's GLACIER and DEEP_ARCHIVE take hours.
STORAGE_CLASSES: Final[dict[str, tuple[str, ...]]] = {
    "s3": ("STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR"),
    "gs": ("STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE"),
}

#: Base URLs of the exchange.
HOSTS: Final[dict[str, str]] = {"mainnet": "https://www.deribit.com", "testnet": "https://test.deribit.com"}
#: Where mainnet keeps the trades of all years; its other host forgets them after about a day.
HISTORY_HOST: Final = "https://history.deribit.com"
#: Sources that may be of any network: the exchange, and what was harvested from it.
_ANY_NETWORK: Final = ("deribit", "lake")
_PASSWORD_IN_URL: Final = re.compile(r"(?<=://)([^/@\s:]*):[^/\s]*@")


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SyntheticSettings(_Group):
    """The synthetic market. Same seed, same market, whatever range is asked for."""

    seed: int = 20_260_101
    missing_bid: float = Field(0.08, ge=0, le=1, description="share of far rows without a bid")
    missing_ask: float = Field(0.015, ge=0, le=1, description="share of rows without an ask")
    defect_rate: float = Field(0.002, ge=0, le=0.5, description="share of rows spoilt on purpose, so that quality has work")
    outage_rate: float = Field(0.002, ge=0, le=0.5, description="share of grid times whose snapshot is lost, so that gaps are found")
    volatility_premium: float = Field(0.06, description="mean of implied minus realised volatility, decimal; 0 = no edge for sellers")


class RecordedSettings(_Group):
    """Recorded chains: a file or folder, and where index prices, DVOL and funding lie."""

    path: Path | None = None
    prices: Path | None = Field(None, description="folder of prices, DVOL and funding; default: in `path`, else its sibling `prices`")


class ExchangeSettings(_Group):
    """The exchange in a box (`options-agent exchange`): where it listens, what feeds it, how fast its time goes."""

    port: int = Field(8_765, ge=0, le=65_535, description="on 127.0.0.1; 0 = any free one")
    feed: Literal["synthetic", "recorded", "lake"] = "synthetic"
    speed: float = Field(1.0, gt=0, description="market seconds a second")
    start: dt.datetime | None = Field(None, description="market time it opens at; default: now, or the first snapshot of recorded chains")
    every_seconds: float = Field(1.0, gt=0, description="market seconds between new synthetic chains")
    limits: float = Field(1.0, ge=0, description="credit pools in multiples of mainnet's; 0 = none")
    client_id: str = "box"
    client_secret: SecretStr = SecretStr("box-secret")


class Credentials(_Group):
    """A key of one network. A harvester's should be read-only."""

    client_id: str | None = None
    client_secret: SecretStr | None = None


class DeribitSettings(_Group):
    """The live source `deribit`. The network picks host and credentials: they are never mixed."""

    mainnet: Credentials = Credentials()
    testnet: Credentials = Credentials()
    synthetic: Credentials = Credentials()
    url: str | None = Field(None, description="base URL of another server of this network, for instance http://127.0.0.1:8765")
    history_url: str | None = Field(None, description="base URL of the server that keeps trades of past days; mainnet has one of its own")
    transport: Literal["auto", "websocket", "http"] = "auto"
    timeout_seconds: float = Field(10.0, gt=0, description="wall seconds an answer is waited for")
    settle_seconds: float = Field(1.0, ge=0, description="market seconds after the grid time at which a snapshot is taken")
    sweep_seconds: float = Field(90.0, gt=0, description="market seconds after which an unfinished sweep is written as partial")
    fresh_seconds: float = Field(60.0, gt=0, description="how old a row of the socket may be before it is asked for again")
    credit_share: float = Field(0.8, gt=0, le=1, description="share of the exchange's credits this harvester allows itself")
    prices_seconds: float = Field(60.0, gt=0, description="market seconds between two kept index prices")
    backoff_seconds: float = Field(1.0, gt=0, description="market seconds before the first reconnection; doubles, with jitter")
    backoff_most_seconds: float = Field(60.0, gt=0)


class TardisSettings(_Group):
    """The vendor of recorded ticks behind source `tardis` and `options-agent backfill`."""

    api_key: SecretStr | None = Field(None, description="without one the vendor gives the first day of each month only")
    endpoint: str = Field("https://datasets.tardis.dev/v1", description="base URL of the vendor's datasets")
    parallel_days: int = Field(2, ge=1, le=16, description="days fetched and decoded at once; the vendor limits connections")
    max_age_minutes: float = Field(60.0, gt=0, description="how old the last row of an instrument may be in a snapshot")
    prices_seconds: float = Field(60.0, gt=0, description="seconds between two kept index and perpetual prices")
    trades: bool = Field(True, description="fetch trades of options too")
    keep_files: bool = Field(False, description="keep the fetched files below {home}/cache/tardis once a day is done")
    patience_seconds: float = Field(900.0, gt=0, description="how long a download may stand still before the day is given up")


class QualitySettings(_Group):
    """Thresholds of the quality rules. Rates are decimals, prices in coin, times in seconds."""

    disabled: tuple[str, ...] = ()
    iv_min: float = 0.01
    iv_max: float = 9.0
    mark_band_ticks: float = Field(10.0, description="how far, in ticks, the mark may lie outside bid-ask before it is unbelievable")
    mark_band_share: float = Field(0.10, ge=0, description="and how far, as a share of the mark: ticks of cheap coins are fine")
    mark_model_coin: float = Field(0.001, ge=0, description="how far the mark may lie from Black-76 at its own IV and forward, coin")
    mark_model_forward: float = Field(0.01, ge=0, description="and by what share the forward may have moved between it and the mark")
    tick_tolerance: float = Field(1e-3, gt=0, lt=0.5, description="share of a tick by which a price may miss the grid (float noise)")
    stale_seconds: float = Field(3_900.0, description="how much older than its snapshot a row may be")
    late_seconds: float = Field(3_600.0, description="how long after its snapshot a row may have become known")
    smile_z: float = Field(12.0, description="robust z-score of IV against the fitted smile")
    smile_points: float = Field(0.25, description="least distance from the smile, decimal volatility, for an outlier")
    learn_thresholds: bool = Field(True, description="learn smile_points by underlying and tenor from the weeks before; never above it")
    arbitrage_coin: float = Field(0.001, description="executable static-arbitrage profit, coin, beyond which a row is not believed")
    parity_coin: float = Field(0.02, description="executable profit against the forward, coin; the sweep is not instantaneous")
    max_quarantine_rate: float = Field(0.05, description="share of a day's rows in quarantine that fails the blocking check")


class FreshnessSettings(_Group):
    """When the newest good snapshot is too old. How late is late is `alerts.gap_grace_minutes`."""

    good_share: float = Field(0.9, ge=0, le=1, description="share of the listed contracts a snapshot must have to count as good")
    stale_intervals: float = Field(8.0, ge=1, description="late for longer than this many intervals is stale")
    retired_days: int = Field(7, ge=1, description="a region silent for so many days, while another is heard, is given up and not missed")


class RegionSettings(_Group):
    """How far regions of one source may lie apart before a check warns."""

    mark_coin: float = Field(0.002, ge=0, description="difference of marks of one contract and snapshot, coin")
    mark_share: float = Field(0.05, ge=0, description="and as a share of the larger mark; both must be passed")
    lag_seconds: float = Field(120.0, gt=0, description="how much later than the first region a snapshot may be known, median of rows")
    watched_intervals: int = Field(8, ge=1, description="grid times, back from now, that the check and its alert look at")


class BacktestSettings(_Group):
    """Capital, range and costs shared by every backtest."""

    capital_coin: float = Field(1.0, gt=0, description="coins held at the start (covered structures, margin)")
    seed: int = Field(0, ge=0, description="of everything drawn at random: latencies, fills of resting orders")
    latency_seconds: float = Field(0.0, ge=0, description="decision to fill, its median; the fill is on the first snapshot at or after")
    latency_sigma: float = Field(0.0, ge=0, description="of the logarithm of the latency; 0: always the median")
    fee_schedule: str = Field("deribit", description="name of a schedule, or path of a TOML file of one's own")
    crossing: float = Field(1.0, ge=0, le=1, description="share of the half-spread paid: 1 = sell the bid, buy the ask; 0 = mid")
    impact: float = Field(0.0, ge=0, description="half-spreads paid on top for an order as large as the size quoted")
    impact_power: float = Field(1.5, gt=0, description="how that grows with order size over quoted size; of recorded books")
    assumed_depth: float = Field(5.0, gt=0, description="contracts quoted where the size is not known; the median of recorded books")
    missing_quotes: Literal["none", "model"] = Field("none", description="no quote: no fill, or the fill model's, flagged and counted")
    fills: Literal["cross", "maker"] = Field("cross", description="cross the spread, or rest first")
    maker_place: float = Field(-1.0, ge=-1, lt=1, description="where an order rests: -1 = own side of the book, 0 = mid")
    maker_patience_minutes: float = Field(60.0, ge=0, description="how long it rests before it crosses")
    maker_rate: float = Field(0.5, ge=0, description="fills an hour of an order with nothing ahead of it")
    maker_queue_scale: float = Field(10.0, gt=0, description="contracts ahead that halve that rate")
    option_value_in_margin: bool = Field(False, description="whether the options' value counts in the margin balance")
    perpetual_half_spread: float = Field(0.00005, ge=0, description="paid by a hedge beside its fee, share of the index")
    min_trades: int = Field(5, ge=1, description="fewer closed trades make a run INCONCLUSIVE")
    settlement_window_minutes: int = 30
    settlement_max_distance_minutes: int = Field(180, description="how far the nearest price may lie from expiry")


class LanguageModelSettings(_Group):
    """The language model: any server that speaks OpenAI's protocol; by default the desk's own on this machine (docs/language-model.md)."""

    base_url: str | None = Field(None, description="https://host/v1; default: the embedded server, no key and no network needed")
    api_key: SecretStr | None = None
    model: str = Field("desk-rules", description="who answers where no other is named")
    models: dict[str, str] = Field({}, description='by feature, for instance {"study": "gpt-5-mini"}')
    timeout_seconds: float = Field(60.0, gt=0)
    retries: int = Field(2, ge=0, description="after a lost connection, a 429 or a 5xx; Retry-After is honoured")
    requests_per_minute: float = Field(600.0, gt=0, description="of this process, over all threads")
    reasoning_tokens: int = Field(2_000, ge=0, description="room to think of models that do so before they answer, on top of the answer's")
    budget_usd_per_day: float | None = Field(5.0, ge=0, description="calls that could pass it are not made; None: no limit")
    budgets: dict[str, float] = Field({}, description='USD a day by feature, for instance {"study": 2.0}')
    prices_file: Path | None = Field(None, description="TOML of prices of one's own (docs/language-model.md); it wins over the kept table")

    @field_serializer("base_url")
    def _dumped_without_password(self, url: str | None) -> str | None:
        return url if url is None else without_password(url)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Without the password a URL may hold."""
        for name, value in super().__repr_args__():
            yield name, without_password(value) if name == "base_url" and value else value


class EmailRoute(_Group):
    """Mail by SMTP. The server's certificate is verified, against `ca_file` where its authority is one's own."""

    kind: Literal["email"] = "email"
    host: str
    port: int = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: str | None = None
    password: SecretStr | None = None
    sender: str
    to: tuple[str, ...] = Field(min_length=1)
    ca_file: Path | None = None
    timeout_seconds: float = 20.0


class WebhookRoute(_Group):
    """JSON by POST. With a secret, the header `X-Options-Agent-Signature` holds `sha256=` and the HMAC of the body."""

    kind: Literal["webhook"] = "webhook"
    url: SecretStr
    secret: SecretStr | None = None
    timeout_seconds: float = 10.0


class AppriseRoute(_Group):
    """Any service that apprise knows."""

    kind: Literal["apprise"] = "apprise"
    url: SecretStr


Severity = Literal["info", "warning", "failure"]


class AlertRule(_Group):
    """What happens to alerts whose key fits `what`; of several rules the first that fits counts."""

    what: str = Field("*", min_length=1, description="pattern over keys: gap/*, run/*, regions/BTC/*")
    severity: Severity | None = Field(None, description="in place of the alert's own")
    routes: tuple[str, ...] | None = Field(None, description="names of routes, `file` among them; all by default, none where empty")
    quiet: str | None = Field(
        None, pattern=r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$", description="22:00-07:00: held until it ends"
    )
    time_zone: str = "UTC"
    through: Severity = Field("failure", description="least severity that is told in quiet hours too")
    group_seconds: float = Field(0.0, ge=0, description="wait so long for others and tell them together")
    escalate_minutes: float | None = Field(None, gt=0, description="still open after so long: told to `escalate_to`, as a failure")
    escalate_to: tuple[str, ...] = ()
    repeat_minutes: float | None = Field(None, gt=0, description="and again every so often while it stays open")

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"no time zone is called {name!r}") from None
        return name


class AlertSettings(_Group):
    """Where alerts go, and by which rules (docs/alerts.md). The file and the log always; any apprise URL besides."""

    urls: tuple[SecretStr, ...] = ()
    gap_grace_minutes: float = Field(5.0, ge=0, description="how late a snapshot may be before a gap is open")
    routes: dict[str, Annotated[EmailRoute | WebhookRoute | AppriseRoute, Field(discriminator="kind")]] = {}
    rules: tuple[AlertRule, ...] = ()
    rules_file: Path | None = Field(None, description="TOML with tables `routes` and `rules`, in place of the two above")

    @model_validator(mode="after")
    def _routes_exist(self) -> Self:
        known = {"file", *self.routes}
        for rule in self.rules:
            if unknown := sorted({*(rule.routes or ()), *rule.escalate_to} - known):
                raise ValueError(f"rule {rule.what!r} names unknown routes {unknown}; there are {sorted(known)}")
        return self


class RetentionSettings(_Group):
    """Days a layer stays in the lake once the archive is proven to hold it; none set = kept for ever."""

    raw_days: int | None = Field(None, ge=2, description="raw snapshots; their compacted day is archived first")
    clean_days: int | None = Field(None, ge=2, description="clean days: backtests read these, so keep what they span")
    quarantine_days: int | None = Field(None, ge=2, description="quarantined days")
    drill_days: int = Field(3, ge=1, description="archived days of each underlying that the monthly restore drill brings back")

    @model_validator(mode="after")
    def _raw_goes_first(self) -> Self:
        for name, days in (("clean_days", self.clean_days), ("quarantine_days", self.quarantine_days)):
            if days is not None and (self.raw_days is None or days < self.raw_days):
                raise ValueError(f"{name}={days} with raw_days={self.raw_days}: raw goes first, or judging would write the day again")
        return self


class Settings(BaseSettings):
    """All settings of a desk."""

    model_config = SettingsConfigDict(
        env_prefix="OPTIONS_AGENT_", env_nested_delimiter="__", env_file=".env", env_file_encoding="utf-8", extra="ignore", frozen=True
    )

    network: Network = "synthetic"
    source: SourceName = "synthetic"
    profile: Literal["local", "postgres"] = "local"
    home: Path = Path(".options-agent")
    lake_root: str | None = Field(None, description="any fsspec URL; default: {home}/lake")
    archive_root: str | None = Field(None, description="any fsspec URL: s3://bucket/archive, gs://bucket/archive; default: {home}/archive")
    archive_storage_class: str | None = Field(
        None, description="of archived days: on S3 STANDARD_IA, GLACIER_IR..., on GCS NEARLINE, COLDLINE, ARCHIVE; default: the bucket's"
    )
    strategies_dir: Path | None = Field(None, description="folder of strategies of one's own, *.toml; default: {home}/strategies")
    underlyings: tuple[str, ...] = ("BTC", "ETH")
    strategies: tuple[str, ...] = Field((), description="strategies the orchestrator plays; default: the catalogue and one's own files")
    region: str = Field("local", pattern=r"^[a-z0-9]+$")
    interval_minutes: int = Field(60, ge=1, description="grid of historical harvests")
    live_interval_minutes: int = Field(15, ge=1, description="grid of the live harvest")
    history_start: dt.date = Field(default=dt.date(2024, 1, 1), description="first day the orchestrator has partitions for")

    s3_endpoint_url: str | None = None
    s3_access_key_id: SecretStr | None = None
    s3_secret_access_key: SecretStr | None = None
    s3_region: str = "us-east-1"
    gcs_endpoint_url: str | None = Field(None, description="another host that speaks Google Cloud Storage's JSON API; default: Google's")
    gcs_token: SecretStr | None = Field(
        None, description="path of a service account's key file, google_default, cloud or anon; default: what the machine has"
    )

    postgres_url: SecretStr | None = Field(None, description="postgresql:// URL; profile postgres starts its own when absent")
    mlflow_tracking_uri: str | None = None
    dask_scheduler: str | None = Field(None, description="tcp://host:port of a Dask scheduler whose workers run the steps of every run")
    dagster_url: str | None = Field(None, description="where the orchestrator's pages are, for links in reports and MLflow")

    synthetic: SyntheticSettings = SyntheticSettings()
    recorded: RecordedSettings = RecordedSettings()
    exchange: ExchangeSettings = ExchangeSettings()
    deribit: DeribitSettings = DeribitSettings()
    tardis: TardisSettings = TardisSettings()
    quality: QualitySettings = QualitySettings()
    freshness: FreshnessSettings = FreshnessSettings()
    regions: RegionSettings = RegionSettings()
    backtest: BacktestSettings = BacktestSettings()
    language_model: LanguageModelSettings = LanguageModelSettings()
    alerts: AlertSettings = AlertSettings()
    retention: RetentionSettings = RetentionSettings()

    @field_validator("home")
    @classmethod
    def _absolute_home(cls, home: Path) -> Path:
        return home.expanduser().resolve()

    @field_serializer("lake_root", "archive_root", "s3_endpoint_url", "gcs_endpoint_url", "mlflow_tracking_uri", "dagster_url")
    def _dumpedwithout_password(self, url: str | None) -> str | None:
        return url if url is None else without_password(url)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """What `repr`, `str` and rich print: passwords inside URLs are hidden as secrets are."""
        for name, value in super().__repr_args__():
            yield name, without_password(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _networks_stay_apart(self) -> Self:
        belongs = self.network == "synthetic" if self.source == "synthetic" else self.network != "synthetic" or self.source in _ANY_NETWORK
        if not belongs:
            raise ValueError(
                f"source={self.source!r} does not belong to network={self.network!r}: "
                "synthetic quotes live on the synthetic network only; set both OPTIONS_AGENT_SOURCE and OPTIONS_AGENT_NETWORK"
            )
        _refuse_foreign_host(self.network, self.deribit.url)
        _refuse_foreign_host(self.network, self.deribit.history_url)
        return self

    @property
    def exchange_url(self) -> str:
        """Base URL of the exchange of this network, without `/api/v2`; the synthetic one is the box on this machine."""
        return (self.deribit.url or HOSTS.get(self.network) or f"http://127.0.0.1:{self.exchange.port}").rstrip("/")

    @property
    def history_url(self) -> str:
        """Base URL of the server that keeps trades of past days: mainnet's own, or wherever the exchange is."""
        own = HISTORY_HOST if self.network == "mainnet" and self.deribit.url is None else self.exchange_url
        return (self.deribit.history_url or own).rstrip("/")

    @property
    def exchange_credentials(self) -> Credentials:
        """The key of this network."""
        return {"mainnet": self.deribit.mainnet, "testnet": self.deribit.testnet}.get(self.network, self.deribit.synthetic)

    @model_validator(mode="after")
    def _storage_class_is_the_archives(self) -> Self:
        scheme = self.archive_url.split("://", 1)[0] if "://" in self.archive_url else "file"
        known = STORAGE_CLASSES.get(scheme, ())
        if self.archive_storage_class is not None and self.archive_storage_class not in known:
            raise ValueError(
                f"archive_storage_class={self.archive_storage_class!r} is none of an archive at {scheme}://: "
                f"{', '.join(known) or 'only s3:// and gs:// have any'} (those that cannot be read at once would end every proof)"
            )
        return self

    @property
    def lake_url(self) -> str:
        """Root of the lake; paths below it start with the network."""
        return self.lake_root or str(self.home / "lake")

    @property
    def archive_url(self) -> str:
        """Root of the archive; paths below it start with the network."""
        return self.archive_root or str(self.home / "archive")

    @property
    def own_strategies_dir(self) -> Path:
        """Where strategies of one's own lie."""
        return (self.strategies_dir or self.home / "strategies").expanduser()

    @property
    def reports_dir(self) -> Path:
        """Backtest reports and plots of this network."""
        return self.home / "reports" / self.network

    @property
    def state_dir(self) -> Path:
        """Small state of this network: open alerts, pending tracking, running processes."""
        return self.home / "state" / self.network

    @property
    def models_dir(self) -> Path:
        """What the embedded model server keeps: files, jobs, trained models."""
        return self.home / "models" / self.network

    def options_for(self, url: str) -> dict[str, object]:
        """fsspec options for a URL, by its scheme; empty where nothing is set, so that the machine's own credentials apply."""
        scheme = url.split("://", 1)[0] if "://" in url else "file"
        if scheme in {"gs", "gcs"}:
            token = self.gcs_token.get_secret_value() if self.gcs_token else None
            return {name: value for name, value in (("endpoint_url", self.gcs_endpoint_url), ("token", token)) if value}
        return self.storage_options if scheme in {"s3", "s3a"} else {}

    @property
    def storage_options(self) -> dict[str, object]:
        """fsspec options for `s3://` URLs; empty where nothing is set, so that the ambient chain applies."""
        options: dict[str, object] = {}
        if self.s3_access_key_id and self.s3_secret_access_key:
            options["key"] = self.s3_access_key_id.get_secret_value()
            options["secret"] = self.s3_secret_access_key.get_secret_value()
        if self.s3_endpoint_url:
            options["client_kwargs"] = {"endpoint_url": self.s3_endpoint_url, "region_name": self.s3_region}
        return options


def _refuse_foreign_host(network: Network, url: str | None) -> None:
    """A host that belongs to another network than the one set, or no loopback for the synthetic one, is refused."""
    host = (urlsplit(url).hostname or "") if url else ""
    if not host:
        return
    loopback = host in {"127.0.0.1", "localhost", "::1"}
    known = [*HOSTS.items(), ("mainnet", HISTORY_HOST)]
    of_other = [name for name, url_of in known if name != network and host == urlsplit(url_of).hostname]
    if of_other or (network == "synthetic" and not loopback):
        whose = f"{of_other[0]}'s" if of_other else "not this machine's"
        raise ValueError(
            f"the exchange's URL {url!r} is {whose}, the network is {network}: set OPTIONS_AGENT_NETWORK to the exchange's own"
        )


def load_settings(**overrides: object) -> Settings:
    """Read settings from the environment and `.env`; `overrides` win.

    Raises:
        SettingsError: a value is missing, malformed or contradicts another; the message names the
            variable and never shows a secret.
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except UnreadableSetting as error:
        raise SettingsError(
            f"settings are not usable: {error}",
            place="environment or .env (variables start with OPTIONS_AGENT_)",
            remedy='lists and groups are written as JSON, for instance OPTIONS_AGENT_UNDERLYINGS=["BTC", "ETH"]',
        ) from None
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(str(p) for p in e['loc']) or 'settings'}: {e['msg']}" for e in error.errors(include_input=False))
        raise SettingsError(
            f"settings are not usable: {problems}",
            place="environment or .env (variables start with OPTIONS_AGENT_)",
            remedy="correct the named setting; `options-agent doctor` shows the values in force",
        ) from None


def without_password(url: str) -> str:
    """`https://user:secret@host` as `https://user:**********@host`."""
    return _PASSWORD_IN_URL.sub(r"\1:**********@", url)
