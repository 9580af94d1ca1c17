"""HTTP to the engine: one connection per request, no proxies, every wait bounded."""

from __future__ import unicode_literals

import json
import uuid

import jarray
from java.io import BufferedReader, ByteArrayOutputStream, InputStreamReader, IOException
from java.net import URL, ConnectException, Proxy, SocketTimeoutException
from java.security import MessageDigest
from javax.crypto import Mac
from javax.crypto.spec import SecretKeySpec

from cellseg_jy.problems import Cancelled, Problem
from cellseg_jy.texts import as_text, to_bytes, to_hex

CONNECT_MS = 5000
HEALTH_MS = 2000
SILENCE_MS = 30000
"""The engine says that it is alive twice a second; this long without a word it hangs."""

_CHUNK_BYTES = 65536


class NotRunning(Problem):
    """Nothing listens at the address: no request was sent."""


class Connection(object):
    """Where an engine is and how it is asked.

    Parameters
    ----------
    url, token, pid
        As its ``engine.json`` has them.
    exchange
        Its folders for arrays, the fast one first.
    """

    def __init__(self, url, token, pid, exchange):
        self.url = url
        self.token = token
        self.pid = pid
        self.exchange = exchange

    @classmethod
    def of(cls, record):
        """Give the connection to the engine of that ``engine.json``."""
        exchange = [record["exchange"], record["exchange_large"]]
        return cls(record["url"], record["token"], record["pid"], exchange)

    def open(self, method, path, body=None, silence_ms=SILENCE_MS, with_token=True):
        """Send a request and give the connection, its answer still to be read.

        Raises
        ------
        NotRunning, Problem
            The engine cannot be reached, hangs, ended, or refuses; one sentence says why.
        """
        connection = URL(self.url + path).openConnection(Proxy.NO_PROXY)
        connection.setRequestMethod(method)
        connection.setConnectTimeout(CONNECT_MS)
        connection.setReadTimeout(silence_ms)
        connection.setUseCaches(False)
        connection.setRequestProperty("Connection", "close")
        if with_token:
            connection.setRequestProperty("X-CellSeg-Token", self.token)
        try:
            if body is not None:
                content = to_bytes(body)
                connection.setDoOutput(True)
                connection.setRequestProperty("Content-Type", "application/json")
                # Of a known length: the JDK would send others again if the engine ended.
                connection.setFixedLengthStreamingMode(len(content))
                stream = connection.getOutputStream()
                stream.write(content)
                stream.close()
            status = connection.getResponseCode()
        except ConnectException as error:
            raise NotRunning(
                "{} cannot be reached: {}.".format(self.name, error.getMessage()), code="lost"
            )
        except IOException as error:
            raise self.lost(error)
        if status >= 400:
            raise self._refusal(connection, status)
        return connection

    def ask(self, method, path, value=None, **options):
        """Send JSON and give the answer's JSON; raises as `open`."""
        body = None if value is None else json.dumps(value)
        connection = self.open(method, path, body, **options)
        try:
            return json.loads(_read_all(connection.getInputStream()))
        except IOException as error:
            raise self.lost(error)
        except ValueError:
            raise Problem("{} answered something that is not JSON.".format(self.name))
        finally:
            connection.disconnect()

    def events(self, connection):
        """Yield the events of an answer line by line."""
        reader = BufferedReader(InputStreamReader(connection.getInputStream(), "UTF-8"))
        while True:
            try:
                line = reader.readLine()
            except IOException as error:
                raise self.lost(error)
            if line is None:
                raise self.lost()
            try:
                event = json.loads(line)
            except ValueError:
                raise self.lost()
            yield event

    def prove(self):
        """Say whether what listens is the engine: it must know the token, and is not told it.

        Raises
        ------
        NotRunning, Problem
            Nothing answers.
        """
        nonce = uuid.uuid4().hex
        health = self.ask(
            "GET", "/v1/health?nonce=" + nonce, silence_ms=HEALTH_MS, with_token=False
        )
        mac = Mac.getInstance("HmacSHA256")
        mac.init(SecretKeySpec(to_bytes(self.token), "HmacSHA256"))
        expected = to_hex(mac.doFinal(to_bytes(nonce)))
        proof = as_text(health.get("proof", ""))
        is_equal = MessageDigest.isEqual(to_bytes(expected), to_bytes(proof))
        return is_equal and health.get("pid") == self.pid

    @property
    def name(self):
        """The engine, for messages."""
        return "The engine at {} (process {})".format(self.url, self.pid)

    def lost(self, error=None):
        """Give the error for an engine that ended, or hangs, in the middle."""
        if isinstance(error, SocketTimeoutException):
            return Problem(
                "{} has not answered for a while.".format(self.name),
                "If it hangs, end process {} and try again.".format(self.pid),
                "timeout",
            )
        return Problem(
            "{} ended, or the connection to it broke, before there was a result.".format(self.name),
            "Try again: the next call starts a new engine; its log says more (engine.log).",
            "lost",
        )

    def _refusal(self, connection, status):
        stream = connection.getErrorStream()
        try:
            error = json.loads(_read_all(stream))["error"] if stream is not None else {}
        except (IOException, ValueError, KeyError, TypeError):
            error = {}
        return make_problem("refused", error or {"message": "It answered {}.".format(status)})


def make_problem(status, error):
    """Give the exception for the ``error`` of an answer, in the engine's own words."""
    message = error.get("message") or "The engine gave no reason."
    if status == "cancelled":
        return Cancelled(message)
    return Problem(message, error.get("hint") or "", error.get("code") or status)


def _read_all(stream):
    whole = ByteArrayOutputStream()
    chunk = jarray.zeros(_CHUNK_BYTES, str("b"))
    count = stream.read(chunk)
    while count >= 0:
        whole.write(chunk, 0, count)
        count = stream.read(chunk)
    stream.close()
    return whole.toString("UTF-8")
