"""Telling a file, Slack, and what apprise knows."""

from __future__ import annotations

import json
import stat
import sys
from typing import TYPE_CHECKING, Any

import pytest

from opencode_monitor.alerts.channels import send, slack_document
from opencode_monitor.alerts.config import AppriseChannel, FileChannel, JsonChannel, SlackChannel
from opencode_monitor.alerts.webhook import Patience
from opencode_monitor.errors import DeliveryError
from receivers import closed_port, receiving, redirecting

if TYPE_CHECKING:
    from pathlib import Path

    from receivers import Receiver

QUICK = Patience(seconds=2, pauses=(0.0, 0.0))
HOSTILE = "<!channel> & `@here`\x1b[31m\u202e```\nnew"


def document(text: str = "day: $61.20 spent", name: str | None = None) -> dict[str, Any]:
    facts = [{"what": "session", "name": name, "amount": "61.2"}]
    return {"text": text, "alert": "day", "when": "daily_cost > 60", "unit": "usd", "facts": facts}


def apprise(url: str) -> AppriseChannel:
    return AppriseChannel.model_validate({"type": "apprise", "url": url})


class TestFile:
    def test_send_adds_a_line_that_its_owner_alone_can_read(self, tmp_path: Path) -> None:
        channel = FileChannel.model_validate({"type": "file", "path": str(tmp_path / "new" / "alerts.jsonl")})

        send(channel, document("a\nb"), key="k1")
        send(channel, document("second"), key="k2")

        lines = [json.loads(line) for line in channel.path.read_text().splitlines()]
        assert [(line["key"], line["text"]) for line in lines] == [("k1", "a\nb"), ("k2", "second")]
        assert stat.S_IMODE(channel.path.stat().st_mode) == 0o600

    def test_send_again_after_a_crash_writes_no_second_line(self, tmp_path: Path) -> None:
        channel = FileChannel.model_validate({"type": "file", "path": str(tmp_path / "alerts.jsonl")})

        for key in ("k1", "k2", "k1"):
            send(channel, document(), key=key)

        assert [json.loads(line)["key"] for line in channel.path.read_text().splitlines()] == ["k1", "k2"]

    def test_send_ends_a_line_that_was_cut_off(self, tmp_path: Path) -> None:
        channel = FileChannel.model_validate({"type": "file", "path": str(tmp_path / "alerts.jsonl")})
        channel.path.write_text('{"key": "k')

        send(channel, document(), key="k1")

        assert [line[:10] for line in channel.path.read_text().splitlines()] == ['{"key": "k', '{"key": "k']

    def test_send_to_a_place_that_takes_nothing_is_told(self, tmp_path: Path) -> None:
        channel = FileChannel.model_validate({"type": "file", "path": str(tmp_path)})

        with pytest.raises(DeliveryError, match=f"{tmp_path}: Is a directory"):
            send(channel, document(), key="k1")


class TestSlack:
    def test_send_posts_text_and_blocks(self, receiver: Receiver) -> None:
        channel = SlackChannel.model_validate({"type": "slack", "url": receiver.url})

        send(channel, document(name="Fix"), key="k1", patience=QUICK)

        (request,) = receiver.requests
        assert request.json["text"] == "*day: $61.20 spent*\n```rule: daily_cost &gt; 60\nsession Fix: $61.20```"
        assert [block["text"]["text"] for block in request.json["blocks"]] == request.json["text"].split("\n", 1)
        assert request.headers["Idempotency-Key"] == "k1"

    def test_slack_document_hostile_text_calls_nobody_and_ends_no_block(self) -> None:
        found = slack_document(document(HOSTILE, HOSTILE))

        text = json.dumps(found, ensure_ascii=False)
        sentence, details = (block["text"]["text"] for block in found["blocks"])
        assert "<!" not in text
        assert not any(character in text for character in "\x1b\u202e")
        assert (sentence.count("\n"), details.count("```"), details.count("`")) == (0, 2, 6)

    def test_slack_document_long_text_fits_into_a_section(self) -> None:
        found = slack_document(document("x" * 10_000, "y" * 10_000))

        assert all(len(block["text"]["text"]) <= 3_000 for block in found["blocks"])


class TestJson:
    def test_send_variable_that_is_missing_or_no_address_is_told_without_it(
        self, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        channel = JsonChannel.model_validate({"type": "json", "url": "env:OPS_URL", "secret": "env:OPS_SECRET"})
        monkeypatch.setenv("OPS_SECRET", "shared")

        told = []
        for value in (None, "http://ops.example/s3cret", "s3cret"):
            if value is not None:
                monkeypatch.setenv("OPS_URL", value)
            with pytest.raises(DeliveryError) as caught:
                send(channel, document(), key="k1", patience=QUICK)
            told.append(str(caught.value))
        monkeypatch.setenv("OPS_URL", receiver.url)
        send(channel, document(), key="k1", patience=QUICK)

        assert told == [
            "$OPS_URL is not set",
            "what its url names goes over the network in the clear. Use https://, or add: allow_http = true",
            "what its url names is no address. Use https://HOST/PATH, or env:NAME for the variable that holds it.",
        ]
        assert receiver.requests[0].headers["X-Opencode-Monitor-Signature"].startswith("sha256=")


# Of apprise's own import, on Python below 3.13.
@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
class TestApprise:
    def test_send_through_apprise_arrives(self, receiver: Receiver, capsys: pytest.CaptureFixture[str]) -> None:
        send(apprise(receiver.url.replace("http://", "json://")), document(name="Fix"), key="k1")

        (request,) = receiver.requests
        assert request.json["title"] == "opencode-monitor: day"
        assert request.json["message"] == "day: $61.20 spent\nrule: daily_cost > 60\nsession Fix: $61.20"
        assert capsys.readouterr() == ("", "")

    @pytest.mark.parametrize(
        ("url", "message"),
        [
            ("windows://" if sys.platform != "win32" else "macosx://", "is not available here: what apprise needs for it is not installed"),
            ("nonsense://s3cret", "apprise knows no such address"),
            ("s3cret", "apprise knows no such address"),
            ("slack://s3cret", "the address is incomplete for apprise"),
        ],
    )
    def test_send_address_that_does_not_work_is_no_success(self, url: str, message: str) -> None:
        with pytest.raises(DeliveryError, match=message) as caught:
            send(apprise(url), document(), key="k1")

        assert "s3cret" not in str(caught.value)

    def test_send_service_that_fails_or_is_not_there_is_told_without_the_address(
        self, receiver: Receiver, capsys: pytest.CaptureFixture[str]
    ) -> None:
        receiver.answers.append(500)

        for url in (receiver.url.replace("http://", "json://"), f"json://127.0.0.1:{closed_port()}/s3cret"):
            with pytest.raises(DeliveryError, match=r"^apprise could not deliver it: check the address, and that its service answers$"):
                send(apprise(url), document(), key="k1")

        assert capsys.readouterr() == ("", "")

    def test_send_without_apprise_says_how_to_get_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "apprise", None)

        with pytest.raises(DeliveryError, match=r"^needs apprise\. Run: pip install 'opencode-monitor-analytics\[notify\]'$"):
            send(apprise("json://127.0.0.1"), document(), key="k1")

    def test_send_redirect_is_not_followed(self, receiver: Receiver) -> None:
        with receiving() as other:
            receiver.answers.append(redirecting(307, other.url))

            with pytest.raises(DeliveryError, match="could not deliver"):
                send(apprise(receiver.url.replace("http://", "json://")), document(), key="k1")

        assert (len(receiver.requests), other.requests) == (1, [])
