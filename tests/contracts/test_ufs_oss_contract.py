"""The UFS contract over the OSS driver and the emulator, with each signature, and through all layers with faults."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from contracts.ufs import UfsContract, keys, pages, read_all, soon
from emulator_fixture import Emulator, running_emulator

from jindopy.base.errors import ObjectNotFound
from jindopy.base.retry import RetryPolicy
from jindopy.ufs.base import Capability, Driver, HasBlockGets
from jindopy.ufs.credentials import Credentials, Static
from jindopy.ufs.layer_faults import Fault, FaultPlan
from jindopy.ufs.layers import LayerConfig, wrap
from jindopy.ufs.registry import open_driver

BUCKET = "contract"


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with running_emulator(tmp_path_factory.mktemp("oss"), buckets=[BUCKET], signature="both") as running:
        yield running


def empty(driver: Driver) -> None:
    objects, _ = pages(driver, b"", delimiter=False)
    driver.delete([entry.key for entry in objects], deadline=soon())


def opened(emulator: Emulator, **options: str) -> Driver:
    given = {"fs.oss.endpoint": emulator.endpoint, "fs.oss.region": "cn-hangzhou"}
    given |= {f"fs.oss.{name.replace('_', '.')}": value for name, value in options.items()}
    driver, prefix = open_driver(f"oss://{BUCKET}", given, Static(Credentials(*emulator.keys)))
    assert prefix == b""
    return driver


class OssContract(UfsContract):
    signer = "4"

    @pytest.fixture
    def driver(self, emulator: Emulator) -> Iterator[Driver]:
        driver = opened(emulator, signer_version=self.signer)
        empty(driver)
        yield driver
        driver.close()

    def test_checksum_and_storage_class(self, driver: Driver) -> None:
        assert Capability.CRC64 in driver.capabilities
        self.put(driver, b"sum", b"123456789")
        stat = driver.stat(self.base + b"sum", deadline=soon())
        assert (stat.crc64, stat.storage_class) == (0x995DC9BBDF1939FA, "Standard")
        with driver.get(self.base + b"sum", 2, 3, token=None, deadline=soon()) as body:
            assert (body.object_crc64, body.object_bytes, body.token) == (0x995DC9BBDF1939FA, 9, stat.token)
        objects, _ = pages(driver, self.base + b"sum", delimiter=True)
        assert objects[0].storage_class == "Standard"

    def test_many_parts(self, driver: Driver) -> None:
        chunk = bytes(range(256)) * 4096
        made = driver.put(self.base + b"parts", (chunk for _ in range(20)), deadline=soon())
        assert made.size == 20 << 20
        assert b"-" in made.token
        assert driver.stat(self.base + b"parts", deadline=soon()).token == made.token
        assert read_all(driver, self.base + b"parts", 20 << 20, token=made.token) == chunk * 20

    def test_a_broken_stream_leaves_no_parts(self, driver: Driver, emulator: Emulator) -> None:
        def chunks() -> Iterator[bytes]:
            yield b"x" * (20 << 20)
            raise RuntimeError("the source broke")

        emulator.reset_stats()
        with pytest.raises(RuntimeError):
            driver.put(self.base + b"half", chunks(), deadline=soon())
        assert emulator.stats()["AbortMultipartUpload"] == 1
        with pytest.raises(ObjectNotFound):
            driver.stat(self.base + b"half", deadline=soon())

    def test_a_thousand_and_more(self, driver: Driver) -> None:
        emulated = [b"m/%04d" % index for index in range(1050)]
        for key in emulated:
            self.put(driver, key, b"")
        assert keys(driver, self.base + b"m/") == [self.base + key for key in emulated]
        driver.delete([self.base + key for key in emulated], deadline=soon())
        assert keys(driver, self.base) == []


class TestOssV4(OssContract):
    pass


class TestOssPython(OssContract):
    """Without the native client."""

    @pytest.fixture
    def driver(self, emulator: Emulator) -> Iterator[Driver]:
        driver = opened(emulator, client="python")
        assert isinstance(driver, HasBlockGets)
        assert driver.block_gets() is None
        empty(driver)
        yield driver
        driver.close()


class TestOssV1(OssContract):
    signer = "1"


class TestOssThroughFaults(OssContract):
    """A third of all requests and a tenth of all reads fail, and nobody notices."""

    @pytest.fixture
    def driver(self, emulator: Emulator) -> Iterator[Driver]:
        rates = {Fault.ERROR: 0.2, Fault.THROTTLED: 0.1, Fault.RESET: 0.05, Fault.TRUNCATED: 0.05}
        plan = FaultPlan(rates, seed=7)
        bare = opened(emulator)
        empty(bare)
        policy = RetryPolicy(attempts=20, base_seconds=0.0005, cap_seconds=0.002)
        driver = wrap(bare, LayerConfig(retry=policy, faults=plan))
        yield driver
        driver.close()
