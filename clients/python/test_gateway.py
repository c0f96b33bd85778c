"""grpcio through unary, client-streaming and server-streaming methods, and the raw tunnel by another maker's WebSocket."""

import json

import grpc
import pytest
from podium.v1 import deployments_pb2, deployments_pb2_grpc, health_pb2, health_pb2_grpc
from podium.v1 import instances_pb2, instances_pb2_grpc, keys_pb2, keys_pb2_grpc
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

TENANT = "python"
CHUNK_BYTES = 256  # small, so that even the echo bundle travels in several messages
SECONDS_MAX = 30
LARGE_TEXT_BYTES = 1_000_000  # a frame of this size must pass whole


def bearer(key):
    return [("authorization", f"Bearer {key}")]


@pytest.fixture(scope="module")
def key(channel, admin_key):
    """A tenant's key, revoked in the end."""
    keys = keys_pb2_grpc.KeysServiceStub(channel)
    created = keys.CreateKey(keys_pb2.CreateKeyRequest(tenant_id=TENANT, name="python"), metadata=bearer(admin_key))
    yield created.key
    keys.RevokeKey(keys_pb2.RevokeKeyRequest(key_id=created.key_id), metadata=bearer(admin_key))


@pytest.fixture(scope="module")
def deployment(channel, admin_key, bundle):
    """The echo bundle, streamed in small chunks."""

    def messages():
        yield deployments_pb2.UploadDeploymentRequest(agent_type="echo", version=f"1.0.0-{TENANT}")
        for start in range(0, len(bundle), CHUNK_BYTES):
            yield deployments_pb2.UploadDeploymentRequest(file=bundle[start : start + CHUNK_BYTES])

    return deployments_pb2_grpc.DeploymentsServiceStub(channel).UploadDeployment(
        messages(), metadata=bearer(admin_key), timeout=SECONDS_MAX
    )


@pytest.fixture(scope="module")
def instance(channel, key, deployment):
    """A running echo agent."""
    instances = instances_pb2_grpc.InstancesServiceStub(channel)
    request = instances_pb2.CreateInstanceRequest(deployment_id=deployment.deployment_id)
    created = instances.CreateInstance(request, metadata=bearer(key), timeout=SECONDS_MAX)
    yield created.instance_id
    instances.DeleteInstance(
        instances_pb2.DeleteInstanceRequest(instance_id=created.instance_id), metadata=bearer(key), timeout=SECONDS_MAX
    )


def test_health_needs_no_key(channel):
    assert health_pb2_grpc.HealthServiceStub(channel).GetHealth(health_pb2.GetHealthRequest()).status


def test_a_tenant_may_not_list_keys(channel, key):
    with pytest.raises(grpc.RpcError) as refused:
        keys_pb2_grpc.KeysServiceStub(channel).ListKeys(keys_pb2.ListKeysRequest(), metadata=bearer(key))
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED


def test_an_upload_is_found_again(channel, key, deployment):
    request = deployments_pb2.GetDeploymentRequest(deployment_id=deployment.deployment_id)
    found = deployments_pb2_grpc.DeploymentsServiceStub(channel).GetDeployment(request, metadata=bearer(key))
    assert found.deployment.checksum == deployment.checksum


def test_a_log_can_be_followed(channel, key, instance):
    stream = instances_pb2_grpc.InstancesServiceStub(channel).FollowLogs(
        instances_pb2.FollowLogsRequest(instance_id=instance), metadata=bearer(key), timeout=SECONDS_MAX
    )
    first = next(stream)
    stream.cancel()
    assert first.sequence >= 1


@pytest.mark.parametrize("text", ["hello from Python", "h" * LARGE_TEXT_BYTES], ids=["short", "one megabyte"])
def test_an_agent_answers_over_the_tunnel(address, key, instance, text):
    with dial(address, key, instance) as socket:
        socket.send(json.dumps({"type": "process_message", "content": {"text": text, "messages": []}}))
        frames = []
        while not frames or frames[-1]["type"] != "complete":
            frames.append(json.loads(socket.recv(timeout=SECONDS_MAX)))
    assert frames[0]["type"] == "created"
    assert text in "".join(frame["content"].get("text", "") for frame in frames if frame["type"] == "update")


def test_a_stranger_gets_no_tunnel(address, instance):
    with pytest.raises(InvalidStatus) as refused:
        dial(address, "pod_nobody", instance)
    assert refused.value.response.status_code == 401


def dial(address, key, instance):
    headers = {"Authorization": f"Bearer {key}"}
    return connect(f"ws://{address}/agent/{instance}", additional_headers=headers, max_size=None, compression=None)
