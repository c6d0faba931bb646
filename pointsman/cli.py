"""The command line.

Exit status: 0 all is well; 1 `check` or `demo` found something wrong; 2 the command could not do its work.
Every command imports what it needs when it runs: the Envoy messages alone take most of a second to load.
"""
# ruff: noqa: PLC0415

import asyncio
import os
import re
import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from pointsman.failure import Failure

ModelFinder = Literal["lua", "ai_protocol_manager"]
BodyMode = Literal["none", "streamed", "buffered", "full-duplex-streamed"]


class _Group(TyperGroup):
    """Turns a Failure into one line on stderr and its exit status."""

    def invoke(self, ctx: Any) -> object:  # noqa: ANN401 - typer keeps its class of contexts to itself
        try:
            return super().invoke(ctx)
        except Failure as failure:
            typer.echo(f"pointsman: {failure}", err=True)
            raise typer.Exit(failure.exit_code) from None


app = typer.Typer(
    cls=_Group,
    help="An inference gateway for Envoy.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Folder = Annotated[Path, typer.Argument(help="A folder of Kubernetes manifests.", metavar="FOLDER")]
Folders = Annotated[list[Path], typer.Argument(help="Folders of Kubernetes manifests.", metavar="FOLDER...")]
Bind = Annotated[str, typer.Option(metavar="ADDRESS", help="Where listeners are bound.")]
Finder = Annotated[
    ModelFinder | None, typer.Option("--model-finder", help="How Envoy finds the model in a request's body.")
]
Workers = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Envoy's worker threads (default: the cores, at most 4).")
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show everything that the children log.")]


def _check(**addresses: str) -> None:
    """Raise Failure for an option that is no address; those of `metrics` and mTLS have to be HOST:PORT."""
    from pointsman.bootstrap import address

    for option, text in addresses.items():
        try:
            parsed = address(text)
        except ValueError as error:
            raise Failure(f"--{option} {error}") from None
        if option in {"metrics", "xds-mtls", "advertise-mtls"} and "socket_address" not in parsed:
            raise Failure(f"--{option} {text}: not HOST:PORT")


@app.command()
def up(
    folder: Folder,
    *,
    simulate: Annotated[bool, typer.Option("--simulate", help="Simulate the folder's model servers.")] = False,
    bind: Bind = "127.0.0.1",
    model_finder: Finder = None,
    concurrency: Workers = None,
    verbose: Verbose = False,
) -> None:
    """Run the gateway on a folder of manifests, until Ctrl-C."""
    from pointsman.installation import Options
    from pointsman.up import run

    asyncio.run(run(Options(folder, simulate, bind, model_finder, concurrency, verbose)))


@app.command()
def demo(folder: Folder, *, model_finder: Finder = None, verbose: Verbose = False) -> None:
    """Run the gateway with simulated model servers, send requests for every model, show and check the answers."""
    from pointsman.demo import run
    from pointsman.installation import Options

    options = Options(folder, simulate=True, model_finder=model_finder, verbose=verbose)
    if not asyncio.run(run(options)):
        raise typer.Exit(1)


@app.command()
def translate(folder: Folder, *, bind: Bind = "127.0.0.1", model_finder: Finder = None) -> None:
    """Print the Envoy configuration and the statuses that a folder means."""
    from pointsman.offline import as_yaml, configuration, understand

    meaning = understand(folder, bind=bind, model_finder=model_finder)
    typer.echo(as_yaml(configuration(meaning)), nl=False)


@app.command()
def check(folder: Folder, *, bind: Bind = "127.0.0.1") -> None:
    """Print a folder's problems, one a line; exit status 1 if there are any."""
    from pointsman.offline import understand

    meaning = understand(folder, bind=bind)
    for line in meaning.problems:
        typer.echo(line)
    for line in meaning.notices:
        typer.echo(f"note: {line}")
    if meaning.problems:
        raise typer.Exit(1)
    typer.echo("no problems")


@app.command("control-plane")
def control_plane(
    folders: Folders,
    *,
    xds: Annotated[str, typer.Option(metavar="ADDRESS", help="Where to serve xDS: unix:PATH or HOST:PORT.")],
    admin: Annotated[str, typer.Option(metavar="ADDRESS", help="Where to serve /status, /metrics and others.")],
    bind: Bind = "127.0.0.1",
    model_finder: Finder = None,
    places: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keeps where listeners are from one run to the next.")
    ] = None,
) -> None:
    """Serve what folders mean over xDS, to Envoy and to the picker."""
    from pointsman.heap import staying

    with staying():
        import uvloop

        from pointsman.logs import configure
        from pointsman.offline import existing
        from pointsman.serving import serve

    configure()
    _check(xds=xds, admin=admin)
    for folder in folders:
        existing(folder)
    uvloop.run(serve(folders, xds=xds, admin=admin, bind=bind, model_finder=model_finder, places=places))


@app.command()
def controller(
    *,
    xds: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where to serve xDS: HOST:PORT or unix:PATH.")
    ] = "0.0.0.0:18000",
    xds_mtls: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT",
            help="Where to serve xDS to pods of the controller's own namespace, which have certificates.",
        ),
    ] = "",
    admin: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where to serve /status, /metrics and others.")
    ] = "127.0.0.1:19000",
    controller_name: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="The controllerName of GatewayClasses to serve; may be repeated."),
    ] = None,
    namespace: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A namespace to watch, instead of all; may be repeated.")
    ] = None,
    kubeconfig: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The cluster; in a pod, its own is the default.")
    ] = None,
    context: Annotated[str | None, typer.Option(metavar="NAME", help="The kubeconfig's context.")] = None,
    model_finder: Finder = None,
    advertise: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where Envoys and pickers find xDS; without it none are deployed.")
    ] = "",
    advertise_mtls: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where these find --xds-mtls; without it they use tokens.")
    ] = "",
    envoy_image: Annotated[
        str, typer.Option(metavar="IMAGE", envvar="POINTSMAN_ENVOY_IMAGE", help="The image of the Envoys.")
    ] = "envoyproxy/envoy:distroless-v1.40-latest",
    image: Annotated[
        str, typer.Option(metavar="IMAGE", envvar="POINTSMAN_IMAGE", help="The image of the pickers: Pointsman's own.")
    ] = "pointsman:latest",
    lease: Annotated[
        str,
        typer.Option(
            metavar="NAMESPACE/NAME", help="The Lease that decides which of several replicas writes; not with one."
        ),
    ] = "",
    identity: Annotated[
        str, typer.Option(metavar="NAME", envvar="POD_NAME", help="This replica's name; by default the machine's.")
    ] = "",
    envoy_namespace: Annotated[
        str, typer.Option(metavar="NAME", help="Where Envoys are deployed, in place of each Gateway's own namespace.")
    ] = "",
    own_namespace: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            envvar="POINTSMAN_NAMESPACE",
            help="Where the controller keeps what is its own; in a pod, its own namespace is the default.",
        ),
    ] = "",
) -> None:
    """Serve a Kubernetes cluster: watch it, deploy and configure its Envoys and pickers, write statuses."""
    # gRPC reads it when it is loaded. At its own default a stranger that fails to shake hands writes to our log.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    from pointsman.heap import staying

    with staying():
        import uvloop

        from pointsman.controller import ControllerOptions, control, split
        from pointsman.logs import configure
        from pointsman.trust import namespace_of_pod

    configure()
    _check(xds=xds, admin=admin, **{"xds-mtls": xds_mtls} if xds_mtls else {})
    if lease and not re.fullmatch("[a-z0-9-]+/[a-z0-9-]+", lease):
        raise Failure(f"--lease {lease}: not NAMESPACE/NAME")
    if advertise and xds.startswith("unix:"):
        raise Failure(f"--advertise {advertise}: pods cannot reach --xds {xds}")
    if bool(xds_mtls) != bool(advertise_mtls) or (advertise_mtls and not advertise):
        raise Failure("--xds-mtls and --advertise-mtls belong together, and with --advertise")
    own = own_namespace or namespace_of_pod() or "default"
    names: dict[str, Any] = {"controllers": split(controller_name)} if controller_name else {}
    if identity:
        names["identity"] = identity
    options = ControllerOptions(
        xds=xds,
        admin=admin,
        namespaces=split(namespace or ()),
        kubeconfig=kubeconfig,
        context=context,
        model_finder=model_finder,
        xds_mtls=xds_mtls,
        infrastructure=_infrastructure(
            advertise,
            envoy_image=envoy_image,
            pointsman_image=image,
            namespace=envoy_namespace,
            xds_mtls=advertise_mtls,
            own_namespace=own,
        ),
        lease=lease,
        own_namespace=own,
        **names,
    )
    uvloop.run(control(options))


def _infrastructure(xds: str, **options: Any) -> Any:  # noqa: ANN401 - imported below
    """Return what is made for Gateways and pools, and where what is made finds xDS; None where nothing is to be."""
    if not xds:
        return None
    from pointsman.provisioning import bootstrap_template
    from translators.infrastructure import Infrastructure

    _check(advertise=xds, **{"advertise-mtls": options["xds_mtls"]} if options["xds_mtls"] else {})
    return Infrastructure(xds=xds, bootstrap=bootstrap_template(), **options)


@app.command()
def status(
    address: Annotated[
        str, typer.Argument(metavar="ADDRESS", help="Its --admin address: HOST:PORT or unix:PATH; `up` prints it.")
    ] = "127.0.0.1:19000",
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show how a running control plane stands: gateways, routes, pools, and what each proxy has accepted."""
    from pointsman.status import ask, show

    found = asyncio.run(ask(address))
    if as_json:
        import orjson

        typer.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    else:
        show(found)


@app.command("drain-envoy")
def drain_envoy(
    *,
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where to be asked for /drain.")],
    admin: Annotated[str, typer.Option(metavar="HOST:PORT", help="Envoy's admin interface.")],
    least: Annotated[float, typer.Option(help="Seconds for which Envoy goes on taking requests.")] = 5.0,
    timeout: Annotated[float, typer.Option(help="Seconds within which requests have to end.")] = 60.0,
) -> None:
    """Let an Envoy's requests end before it is told to end, as a container beside it."""
    import uvloop

    from pointsman.draining import DrainOptions, serve
    from pointsman.logs import configure

    configure()
    _check(listen=listen, admin=admin)
    uvloop.run(serve(DrainOptions(listen, admin, least, timeout)))


@app.command()
def picker(
    *,
    listen: Annotated[str, typer.Option(metavar="ADDRESS", help="Where gateways ask: unix:PATH or HOST:PORT.")],
    metrics: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where to serve Prometheus metrics.")],
    xds: Annotated[str, typer.Option(metavar="ADDRESS", help="The control plane: unix:PATH or HOST:PORT.")] = "",
    group: Annotated[str, typer.Option(metavar="NAME", help="The group of Envoys to pick for.")] = "folder",
    pool: Annotated[
        str, typer.Option(metavar="NAMESPACE/NAME", help="Be the picker that this pool names, for any gateway.")
    ] = "",
    folder: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Learn of the pool from a folder, without a control plane.")
    ] = None,
    kubernetes: Annotated[
        bool, typer.Option("--kubernetes", help="Learn of the pool from the cluster, without a control plane.")
    ] = False,
    kubeconfig: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The cluster; in a pod, its own is the default.")
    ] = None,
    context: Annotated[str | None, typer.Option(metavar="NAME", help="The kubeconfig's context.")] = None,
    health: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where to answer gRPC health checks.")] = "",
    trust: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The roots of the control plane's certificate: TLS, and a proof."),
    ] = None,
    token: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The token by which the control plane knows the picker.")
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="tls.crt and tls.key, by which it knows the picker instead of a token."),
    ] = None,
    tls: Annotated[
        str,
        typer.Option(metavar="off|self-signed|FOLDER", help="For gateways: FOLDER has tls.crt and tls.key."),
    ] = "self-signed",
    body_mode: Annotated[
        BodyMode, typer.Option("--body-mode", help="How bodies come from a gateway that does not say.")
    ] = "full-duplex-streamed",
    drain: Annotated[
        float, typer.Option(min=0.0, metavar="SECONDS", help="How long what is passing may take to end at the end.")
    ] = 30.0,
    debug: Annotated[
        bool, typer.Option("--debug", help="Log for each decision the candidates, their costs and the reason.")
    ] = False,
) -> None:
    """Choose the model server for each request: for our Envoys, or, with --pool, for any gateway."""
    import uvloop

    _check(listen=listen, metrics=metrics, **{key: value for key, value in (("xds", xds), ("health", health)) if value})
    from picker import ENVIRONMENT, PickerSettings, serve
    from pointsman.logs import configure
    from pointsman.picker_options import body_mode_of, credentials_of, proof_of, teacher_of
    from pointsman.signals import ending_with_stdin, stop_on_signals

    configure()
    teacher = teacher_of(pool, xds=xds, folder=folder, kubernetes=kubernetes, kubeconfig=kubeconfig, context=context)
    proof = proof_of(trust, token, certificate, pool)
    credentials = credentials_of(tls) if pool else None
    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
        # gRPC reads it when it is loaded, which has just happened: once more from the beginning.
        os.environ.update(ENVIRONMENT)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - this very command
    settings = PickerSettings(
        xds,
        listen,
        metrics,
        group,
        debug=debug,
        pool=pool,
        health=health,
        proof=proof,
        credentials=credentials,
        body_mode=body_mode_of(body_mode),
        drain=drain,
    )

    async def run() -> None:
        stop = stop_on_signals()
        async with ending_with_stdin(stop):
            await serve(settings, stop, teacher=teacher)

    try:
        uvloop.run(run())
    except OSError as error:
        raise Failure(str(error)) from None


@app.command(
    "epp",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def epp(arguments: typer.Context) -> None:
    """Be the picker that a pool of the cluster names, with the flags of the Inference Extension's: epp -poolName ..."""
    from pointsman.epp import picker_words

    words = picker_words(arguments.args)
    # -P: a folder that is called like one of our packages must not hide it.
    command = [sys.executable, "-P", "-m", "pointsman", "picker", *words]
    os.execv(sys.executable, command)  # noqa: S606 - of our own making


@app.command()
def simulate(
    folders: Folders,
    *,
    pods: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the simulated Pods' manifests go.")],
    xds: Annotated[
        str, typer.Option(metavar="ADDRESS", help="The control plane of endpoint pickers, which do not run without.")
    ] = "",
) -> None:
    """Run a simulated model server for each replica of the folders' Deployments."""
    import uvloop

    from pointsman.logs import configure
    from pointsman.offline import existing
    from pointsman.simulation import simulate as run

    configure()
    if xds:
        _check(xds=xds)
    for folder in (*folders, pods):
        existing(folder)
    uvloop.run(run(folders, pods, xds))


@app.command(
    "model-server",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def model_server(arguments: typer.Context) -> None:
    """Simulate the one model server that a command line starts, as a pod's container: model-server vllm serve ..."""
    import uvloop

    from pointsman.model_server import serve

    uvloop.run(serve(arguments.args))


@app.command(
    "lora-syncer",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def lora_syncer(arguments: typer.Context) -> None:
    """Keep a model server's LoRA adapters as a ConfigMap names them: the sidecar, with the sidecar's own flags."""
    from lora_syncer import main as run

    raise typer.Exit(run(arguments.args))


@app.command()
def crds(
    *,
    apply: Annotated[bool, typer.Option("--apply", help="Install those that the cluster does not have.")] = False,
    kubeconfig: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Default: KUBECONFIG's, or the pod's own account.")
    ] = None,
    context: Annotated[str | None, typer.Option(metavar="NAME", help="A context of the kubeconfig.")] = None,
) -> None:
    """Print the CustomResourceDefinitions of the kinds that Pointsman reads and that no other package brings.

    One that is installed is never replaced: `kubectl create -f -` keeps it too, `kubectl apply` would not.
    """
    from pointsman.definitions import as_yaml, install

    if not apply:
        typer.echo(as_yaml(), nl=False)
        return
    from sources.kubernetes.api import Api
    from sources.kubernetes.errors import ConfigurationError

    async def run() -> None:
        try:
            api = await Api.connect(kubeconfig, context)
        except ConfigurationError as error:
            raise Failure(str(error)) from None
        try:
            for line in await install(api):
                typer.echo(line)
        finally:
            await api.close()

    asyncio.run(run())


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(installed_version("pointsman"))


def main() -> None:
    """Run the command line."""
    app()
