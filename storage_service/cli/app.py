"""The command line. Each command is imported when it is used: `--help` must not wait for databases and sockets."""

from importlib.metadata import version

from cyclopts import App

app = App(
    name="storage-service",
    help="Runs, acquisitions and conversions of a data acquisition, kept by a service on a message bus.",
    version=lambda: version("storage-service"),
    suppress_keyboard_interrupt=False,
)
app.command("storage_service.cli.serve:serve", help="Run the service in the foreground.")
app.command("storage_service.cli.demo:demo", help="See the service at work, in a folder of its own.")
app.command("storage_service.cli.call:call", help="Send one command, show its result as JSON.")
app.command("storage_service.cli.watch:watch", help="Show events as they happen.")
app.command("storage_service.cli.story:story", help="Show the history of a run or an acquisition.")
app.command("storage_service.cli.verify:verify", help="Check data against their manifests.")
app.command("storage_service.cli.spool:app", name="spool", help="Show what a client's spool file holds.")
app.command("storage_service.cli.rebuild:rebuild", help="Make the RunDB anew from the files beside the data.")
app.command("storage_service.cli.trash:app", name="trash", help="Show, restore or empty what was set aside.")
app.register_install_completion_command(help="Install completion for your shell.")
