"""The protocol's messages, as far as they are used: the names are this project's, numbers and types the protocol's.

The protobuf library makes classes of the lines below: ``name:type=number``, where ``*`` is for many, the type is text
where none is said, and ``map`` is of texts to texts, or to what stands behind it. What a peer sends beyond them is
passed over.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "wherry.buildkit"

_MESSAGES = """
Packed type_url=1 value:bytes=2
Status code:int32=1 message=2 details:Packed*=3
Timestamp seconds:int64=1 nanos:int32=2
Bytes data:bytes=1

Platform architecture=1 os=2 variant=3 os_version=4
BuildkitVersion package=1 version=2 revision=3 dockerfile_version=4
GCPolicy all:bool=1 keep_duration:int64=2 reserved_space:int64=3 filters*=4 max_used_space:int64=5 \
min_free_space:int64=6
WorkerRecord id=1 labels:map=2 platforms:Platform*=3 gc_policy:GCPolicy*=4 version:BuildkitVersion=5
ListWorkersRequest filter*=1
ListWorkersResponse record:WorkerRecord*=1
InfoRequest
InfoResponse version:BuildkitVersion=1

Position line:int32=1 character:int32=2
Range start:Position=1 end:Position=2
SourceInfo filename=1 data:bytes=2 definition:Definition=3 language=4
Location source:int32=1 ranges:Range*=2
Locations locations:Location*=1
Source locations:map:Locations=1 infos:SourceInfo*=2
ProgressGroup id=1 name=2 weak:bool=3
OpMetadata ignore_cache:bool=1 description:map=2
Definition def_:bytes*=1 metadata:map:OpMetadata=2 source:Source=3
Input digest=1 index:int64=2
SourceOp identifier=1 attrs:map=2
ProxyEnv http_proxy=1 https_proxy=2 ftp_proxy=3 no_proxy=4 all_proxy=5
HostIP host=1 ip=2
UlimitOp name=1 soft:int64=2 hard:int64=3
Meta args*=1 env*=2 cwd=3 user=4 proxy:ProxyEnv=5 extra_hosts:HostIP*=6 hostname=7 ulimits:UlimitOp*=9 \
cgroup_parent=10 remove_mount_stubs:bool=11 valid_exit_codes:int32*=12
SecretEnv id=1 name=2 optional:bool=3
TmpfsOpt size:int64=1
CacheOpt id=1 sharing:int32=2
SecretOpt id=1 uid:uint32=2 gid:uint32=3 mode:uint32=4 optional:bool=5
SSHOpt id=1 uid:uint32=2 gid:uint32=3 mode:uint32=4 optional:bool=5
MountOp input:int64=1 selector=2 dest=3 output:int64=4 readonly:bool=5 type:int32=6 tmpfs:TmpfsOpt=19 \
cache:CacheOpt=20 secret:SecretOpt=21 ssh:SSHOpt=22
ExecOp meta:Meta=1 mounts:MountOp*=2 network:int32=3 security:int32=4 secret_env:SecretEnv*=5 devices:Bytes*=6
NamedUser name=1 input:int64=2
UserOpt by_name:NamedUser=1 by_id:uint32=2
ChownOpt user:UserOpt=1 group:UserOpt=2
FileCopy src=1 dest=2 owner:ChownOpt=3 mode:int32=4 follow_symlink:bool=5 dir_copy_contents:bool=6 unpack:bool=7 \
create_dest_path:bool=8 allow_wildcard:bool=9 allow_empty_wildcard:bool=10 timestamp:int64=11 include*=12 \
exclude*=13 always_replace:bool=14 mode_text=15
FileMkFile path=1 mode:int32=2 data:bytes=3 owner:ChownOpt=4 timestamp:int64=5
FileMkDir path=1 mode:int32=2 make_parents:bool=3 owner:ChownOpt=4 timestamp:int64=5
FileRm path=1 allow_not_found:bool=2 allow_wildcard:bool=3
FileSymlink oldpath=1 newpath=2 owner:ChownOpt=3 timestamp:int64=4
FileAction input:int64=1 second:int64=2 output:int64=3 copy:FileCopy=4 mkfile:FileMkFile=5 mkdir:FileMkDir=6 \
rm:FileRm=7 symlink:FileSymlink=8
FileOp actions:FileAction*=2
OpInput input:int64=1
MergeOp inputs:OpInput*=1
DiffOp lower:OpInput=1 upper:OpInput=2
BuildOp builder:int64=1 inputs:map:OpInput=2 def_:Definition=3 attrs:map=4
Op inputs:Input*=1 exec:ExecOp=2 source:SourceOp=3 file:FileOp=4 build:BuildOp=5 merge:MergeOp=6 diff:DiffOp=7 \
platform:Platform=10

Exporter type=1 attrs:map=2
CacheOptionsEntry type=1 attrs:map=2
CacheOptions imports_deprecated*=2 exports:CacheOptionsEntry*=4 imports:CacheOptionsEntry*=5
SolveRequest ref=1 definition:Definition=2 exporter=3 exporter_attrs:map=4 session=5 frontend=6 \
frontend_attrs:map=7 \
cache:CacheOptions=8 entitlements*=9 frontend_inputs:map:Definition=10 internal:bool=11 exporters:Exporter*=13
SolveResponse exporter_response:map=1
StatusRequest ref=1
Vertex digest=1 inputs*=2 name=3 cached:bool=4 started:Timestamp=5 completed:Timestamp=6 error=7 \
group:ProgressGroup=8
VertexStatus id=1 vertex=2 name=3 current:int64=4 total:int64=5 timestamp:Timestamp=6 started:Timestamp=7 \
completed:Timestamp=8
VertexLog vertex=1 timestamp:Timestamp=2 stream:int64=3 msg:bytes=4
VertexWarning vertex=1 level:int64=2 short:bytes=3 detail:bytes*=4 url=5 info:SourceInfo=6 ranges:Range*=7
StatusResponse vertexes:Vertex*=1 statuses:VertexStatus*=2 logs:VertexLog*=3 warnings:VertexWarning*=4

PruneRequest filter*=1 all:bool=2 keep_duration:int64=3 reserved_space:int64=4 max_used_space:int64=5 \
min_free_space:int64=6
DiskUsageRequest filter*=1
UsageRecord id=1 mutable:bool=2 in_use:bool=3 size:int64=4 parent=5 created_at:Timestamp=6 \
last_used_at:Timestamp=7 \
usage_count:int64=8 description=9 record_type=10 shared:bool=11 parents*=12
DiskUsageResponse record:UsageRecord*=1

BuildHistoryRequest active_only:bool=1 ref=2 early_exit:bool=3 filter*=4 limit:int32=5
Descriptor media_type=1 digest=2 size:int64=3 annotations:map=5
BuildResultInfo result:Descriptor=1 attestations:Descriptor*=2
BuildHistoryRecord ref=1 frontend=2 frontend_attrs:map=3 exporters:Exporter*=4 error:Status=5 \
created_at:Timestamp=6 \
completed_at:Timestamp=7 logs:Descriptor=8 exporter_response:map=9 result:BuildResultInfo=10 generation:int32=12 \
\
trace:Descriptor=13 pinned:bool=14 cached_steps:int32=15 total_steps:int32=16 completed_steps:int32=17 \
external_error:Descriptor=18 warnings:int32=19
BuildHistoryEvent type:int32=1 record:BuildHistoryRecord=2
Progress answers:StatusResponse*=1
UpdateBuildHistoryRequest ref=1 pinned:bool=2 delete:bool=3 finalize:bool=4
UpdateBuildHistoryResponse

APICap id=1 enabled:bool=2 deprecated:bool=3 disabled_reason=4 disabled_reason_msg=5 disabled_alternative=6
PingRequest
PongResponse frontend_caps:APICap*=1 llb_caps:APICap*=2 workers:WorkerRecord*=3
Ref id=1 def_:Definition=2
RefMap refs:map:Ref=1
Result ref_deprecated=1 ref:Ref=3 refs:RefMap=4 metadata:map:bytes=10
GatewaySolveRequest definition:Definition=1 frontend=2 frontend_opt:map=3 allow_result_return:bool=5 \
allow_result_array_ref:bool=6 final:bool=10 cache_imports:CacheOptionsEntry*=12 frontend_inputs:map:Definition=13 \
\
evaluate:bool=14
GatewaySolveResponse ref=1 result:Result=3
ReturnRequest result:Result=1 error:Status=2
ReturnResponse
EvaluateRequest ref=1
EvaluateResponse
InputsRequest
InputsResponse definitions:map:Definition=1
ResolveImageConfigRequest ref=1 platform:Platform=2 resolve_mode=3 log_name=4
ResolveImageConfigResponse digest=1 config:bytes=2 ref=3
FileRange offset:int64=1 length:int64=2
ReadFileRequest ref=1 path=2 range:FileRange=3
ReadFileResponse data:bytes=1
ReadDirRequest ref=1 path=2 include_pattern=3
ReadDirResponse entries:Stat*=1
StatFileRequest ref=1 path=2
StatFileResponse stat:Stat=1
WarnRequest digest=1 level:int64=2 short:bytes=3 detail:bytes*=4 url=5 info:SourceInfo=6 ranges:Range*=7
WarnResponse

Stat path=1 mode:uint32=2 uid:uint32=3 gid:uint32=4 size:int64=5 mtime:int64=6 linkname=7 devmajor:int64=8 \
devminor:int64=9 xattrs:map:bytes=10
Packet type:int32=1 stat:Stat=2 id:uint32=3 data:bytes=4

ContentInfo digest=1 size:int64=2 created_at:Timestamp=3 updated_at:Timestamp=4 labels:map=5
ContentInfoRequest digest=1
ContentInfoResponse info:ContentInfo=1
ReadContentRequest digest=1 offset:int64=2 size:int64=3
ReadContentResponse offset:int64=1 data:bytes=2
WriteContentRequest action:int32=1 ref=2 total:int64=3 expected=4 offset:int64=5 data:bytes=6 labels:map=7
WriteContentResponse action:int32=1 started_at:Timestamp=2 updated_at:Timestamp=3 offset:int64=4 total:int64=5 digest=6

CredentialsRequest host=1
CredentialsResponse username=1 secret=2
GetSecretRequest id=1 annotations:map=2
GetSecretResponse data:bytes=1
CheckAgentRequest id=1
CheckAgentResponse
HealthCheckRequest service=1
HealthCheckResponse status:int32=1
"""

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "": _Field.TYPE_STRING, "bytes": _Field.TYPE_BYTES, "bool": _Field.TYPE_BOOL, "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64, "uint32": _Field.TYPE_UINT32,
}  # fmt: skip


def _describe(file: Any, line: str) -> None:
    name, *fields = line.split()
    message = file.message_type.add(name=name)
    for text in fields:
        head, _, number = text.rpartition("=")
        field_name, _, kind = head.removesuffix("*").partition(":")
        label = _Field.LABEL_REPEATED if head.endswith("*") else _Field.LABEL_OPTIONAL
        if kind == "map" or kind.startswith("map:"):
            entry = message.nested_type.add(name=f"{field_name.title().replace('_', '')}Entry")
            entry.options.map_entry = True
            _add(entry, "key", 1, "", _Field.LABEL_OPTIONAL)
            _add(entry, "value", 2, kind[4:], _Field.LABEL_OPTIONAL)
            kind, label = f"{name}.{entry.name}", _Field.LABEL_REPEATED
        _add(message, field_name, int(number), kind, label)


def _add(message: Any, name: str, number: int, kind: str, label: Any) -> None:
    field = message.field.add(name=name, number=number, label=label)
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"


def _make() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="wherry/buildkit", package=_PACKAGE, syntax="proto3")
    for line in _MESSAGES.strip().splitlines():
        if line:
            _describe(file, line)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        message.name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{message.name}"))
        for message in file.message_type
    }


_CLASSES = _make()


def __getattr__(name: str) -> Any:
    try:
        return _CLASSES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
