"""What `launch.py` says before it imports JAX: help, tables, and everything that is wrong.

All command lines are tried by one interpreter, which has imported nothing else.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.xdist_group("front_door")  # one worker, one interpreter
HEAVY = (
    *("jax", "jaxlib", "flax", "optax", "orbax", "tensorflow", "tensorflow_datasets", "clu"),
    *("matplotlib", "optuna", "sklearn", "torch", "cv2", "PIL"),
)
VERBS = (
    *("train", "evaluate", "predict", "verify", "explain", "average", "export", "serve"),
    *("compress", "models", "fields", "recipes", "prepare", "benchmark", "study", "sweep"),
)
PROGRAM = f"""
import contextlib, io, json, sys
import launch
told = []
for argv in json.load(sys.stdin):
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        try:
            status = launch.main(argv)
        except SystemExit as end:
            status = end.code
    told.append((status, shown.getvalue(), sorted({{*{HEAVY}}} & set(sys.modules))))
print(json.dumps(told))
"""
SLURM = "--launcher=slurm:nodes=2"
NINES = "9" * 5000  # int() takes no more than 4300
# {workdir: (its config.json, what is said of it)}
DAMAGED = {
    "damaged": ("{", "Expecting property name"),
    "list": ("[]", "it holds a list, not the fields of a config"),
    "deep": ("[" * 10**5, "maximum recursion depth"),
    "typed": ('{"batch_size": "many"}', "Could not override"),
    "newer": ('{"field_of_tomorrow": 1}', "config has no field 'field_of_tomorrow'"),
    "binary": (b"\xff\xfe\x00", "'utf-8' codec can't decode"),
}

# (command line, exit status, what is said); files are those of the fixture `told`.
SHOWN = [
    ("--help", 0, "the table of models"),
    *((f"{verb} --help", 0, f"usage: python launch.py {verb}") for verb in VERBS),
    ("help", 0, "first steps:"),
    ("models", 0, "124 models"),
    ("recipes rsb", 0, "rsb:a3                           resnet50"),
    ("recipes nothing", 1, "no recipe matches 'nothing'"),
    ("--config=rsb:a4 --launcher=processes:1x1 --dry_run", 1, "expected a1, a2, a3"),
    ("fields eval_resize", 0, "data.eval_resize = 0"),
    ("fields lr --config=resnet50", 0, "optim.learning_rate = 0.4   (default 0.1)"),
    ("--config=resnet50 --launcher=processes:1x1 --dry_run", 0, "configs/resnet50.py"),
    ("models --filter=vit_s16 --json=models.json", 0, "vit_s16"),
    ("--launcher=processes:2x2 --dry_run", 0, "JAX_PROCESS_ID=1"),
    (f"{SLURM} --dry_run", 0, "#SBATCH --nodes=2"),
    ("--launcher=tpu-vm:type=v4-32,zone=z,bucket=b --dry_run", 0, "queued-resources create"),
    ("--launcher=gke:image=i,bucket=b --dry_run", 0, "kind: JobSet"),
    (f"{SLURM} --dry_run --config.data.name=folder:/there", 0, "#SBATCH"),  # not of this machine
]
WRONG = [
    ("fly", 1, "there is no verb 'fly'; there are train, evaluate"),
    ("evalute", 1, "did you mean 'evaluate'"),
    ("fields nothing-like-it", 1, "no field has nothing-like-it"),
    ("--config=resnet5", 1, "there is no config 'resnet5'; did you mean 'resnet50'"),
    ("--config=nothing", 1, ", cifar10, cifar10_cpu, "),
    ("--wrkdir=x", 2, "unrecognized arguments: --wrkdir=x; did you mean --workdir=x?"),
    ("--batch-size 64", 2, "did you mean --config.batch_size=64?"),
    ("--epochs=3 --lr=0.1", 2, "'--config.duration=3 epochs' --config.optim.learning_rate=0.1?"),
    ("--config.optim.lr=1", 1, "no field 'optim.lr'; did you mean 'optim.learning_rate'"),
    ("--data.name=fake", 2, "did you mean --config.data.name=fake?"),
    ("--config.image_size=1", 1, "did you mean 'data.image_size'"),
    ("predict", 2, "photos"),
    ("verify a.jpg", 2, "second"),
    ("verify a.jpg b.jpg --far=2", 2, "--far: 2 is not 0 to 1"),
    ("verify a.jpg b.jpg --config=verify_digits", 1, "no checkpoints in runs/verify_digits"),
    ("--config=verify_digits --config.accumulate=2", 1, "which compares all images of a batch"),
    ("--config=verify_digits --config.data.per_class=5", 1, "the nearest that is, is 165"),
    ("--config=verify_digits --config.embedding.pairs=no.txt", 1, "no.txt' cannot be read"),
    ("--config.data.held_out_classes=7..9", 1, "cannot tell classes that it was never trained on"),
    ("--config=fixmatch_digits --config.batch_size=100", 1, "the nearest share that is, is 0.12"),
    ("--config=fixmatch_digits --config.data.labelled_per_class=0", 1, "nothing says which have"),
    ("--config.data.labelled_list=no.txt", 1, "no.txt' cannot be read"),
    ("average runs/a runs/b", 1, "no checkpoints in runs/a"),
    ("average --output=x.safetensors --checkpoints=first:2", 1, "expected last:N, best:N"),
    ("evaluate --model=resnet50 --config.eval.norm_batches=2", 1, "is for checkpoints of a run"),
    ("--swa=10", 2, "--config.swa_start=10 epochs"),
    ("--config.swa_start=1% --config.ema_decay=0.9", 1, "in place of config.ema_decay = 0.9"),
    ("prepare --resize=small", 2, "--resize: invalid int value: 'small'"),
    ("sweep --seeds=0,x", 2, "--seeds: '0,x' is no list of whole numbers"),
    ("--workdir=gs://bucket", 1, "--workdir=gs://bucket is a URL"),
    ("--workdir=broken.py/run", 1, "--workdir=broken.py/run cannot be written to: [Errno 20]"),
    ("sweep --grid seed=1,2 --workdir=broken.py/run", 1, "cannot be written to: [Errno 20]"),
    *(
        (f"{line} --workdir=runs/{name}", 1, f"takes {name[1]!r} in")
        for line in ("train", "sweep --grid seed=1,2")
        for name in ("a[1]", "a*", "a?")
    ),
    ("--workdir=a\\b", 1, "for a part of a pattern"),
    # The config: its file, its fields, what they name.
    ("--config=configs/nothing.py", 1, "configs/nothing.py is no Python file"),
    ("--config=broken.py", 1, "config file broken.py: ZeroDivisionError"),
    ("--config=finetune.py:resnet5O", 1, "did you mean 'resnet50'"),
    ("--config=finetune.py:resnet50,haed", 1, "the mode is one of full, head"),
    ("--config=none.py", 1, "none.py: get_config() returns None; let it end with `return config`"),
    ("--config=argument.py:x", 1, "argument.py: get_config() returns a str"),
    ("--config=exits.py", 1, "config file exits.py: SystemExit"),
    (f"--config.batch_size={NINES}", 1, "expected int, at least 1"),
    (f"--config.sharding=fsdp={NINES}", 1, "'fsdp=4,tensor_parallel=2'"),
    ("--workdir=~nobody/x --config.batch_size=x", 1, "expected int"),
    ("--json=empty", 1, "--json=empty is a folder"),
    ("models --json=broken.py/x.json", 1, "--json=broken.py/x.json cannot be written to"),
    ("--config.batch_size 3", 1, "write it as --config.batch_size=VALUE"),
    ("--config.bach_size=3", 1, "did you mean 'batch_size'"),
    ("--config.batch_size=many", 1, "expected int, at least 1"),
    ("--config.batch_size=0", 1, "config.batch_size = 0 is not possible; expected at least 1"),
    ("--config.optim.name=adam", 1, "one of sgd, adamw"),
    ("--config.duration=90", 1, "as in '90 epochs'"),
    ("--config.sharding=fsdp,data_parallel", 1, "only one part can be without a number"),
    ("--config.task=clasification", 1, "did you mean 'classification'"),
    ("--config.model.name=resnet5O", 1, "there is no model 'resnet5O'; did you mean 'resnet50'"),
    ("--config.model.pool=avg", 1, "model resnet20 has no option 'pool'"),
    ("--config.finetune.mode=lora", 1, "'resnet20' has no attention"),
    ("--config.finetune.weights=resnet5O", 1, "did you mean 'resnet50'"),
    ("--config.finetune.weights=resnet50", 1, "are of resnet50, config.model.name is 'resnet20'"),
    ("--config.finetune.weights=no.pth", 1, "there is no file no.pth"),
    ("--config.finetune.weights=empty", 1, "no checkpoints in empty"),
    ("--config.data.name=tar:x.tar", 1, "config.data.name = 'tar:x.tar' is not known"),
    ("--config.data.name=folder:/nowhere", 1, "there is no such folder"),
    ("--config.data.policy=randaugment", 1, "config.data.cache = True keeps images"),
    # Launchers.
    ("--dry_run", 1, "go with a --launcher"),
    ("--max_restarts=3", 1, "go with a --launcher"),
    ("--launcher=pbs", 1, "there are local, the default; processes:NxD"),
    ("--launcher=processes", 1, "processes:NxD"),
    ("--launcher=processes:0", 1, "processes:NxD"),
    ("--launcher=processes:2x", 1, "processes:NxD"),
    (f"--launcher=processes:{NINES}", 1, "processes:NxD"),
    ("--launcher=processes:2 --max_restarts=-1", 2, "--max_restarts: -1 is not 0 to"),
    ("--start_timeout=nan", 2, "--start_timeout: invalid int value"),
    ("--start_timeout=0", 2, "--start_timeout: 0 is not 1 to"),
    ("--launcher=slurm:nodes=0", 1, "nodes=0; expected a whole number, at least 1"),
    (f"--launcher=slurm:nodes={NINES}", 1, "expected a whole number"),
    ("--launcher=slurm:partition=a#b --dry_run", 1, "partition=a#b is no name"),
    ("--launcher=gke:image=i,bucket=b,chips_per_host=0", 1, "chips_per_host=0; expected"),
    ("--launcher=gke:image=i,bucket=b,chips_per_host=²", 1, "chips_per_host=²; expected"),
    ("--launcher=gke:image=i,bucket=b,topology=٤x٤ --dry_run", 1, "expected e.g. 4x4"),
    ("--launcher=slurm:node=2", 1, "no option 'node=2'; did you mean 'nodes'"),
    ("--launcher=slurm:nodes=two", 1, "nodes=two; expected a whole number"),
    ("--launcher=tpu-vm:zone=a,bucket=b", 1, "needs type"),
    ("--launcher=gke", 1, "needs image, bucket"),
    ("--launcher=gke:image=i,bucket=b,topology=4 --dry_run", 1, "expected e.g. 4x4"),
    ("--launcher=gke:image=i,bucket=b --config=broken.py", 1, "broken.py: ZeroDivisionError"),
    (f"{SLURM} --config.optim.lr=1", 1, "no field 'optim.lr'"),
    (f"{SLURM} --config.model.name=resnet5O", 1, "did you mean 'resnet50'"),
    ("--launcher=processes:2 --config.optim.lr=1", 1, "no field 'optim.lr'"),
    ("--launcher=processes:2 --config.data.name=folder:/nowhere", 1, "there is no such folder"),
    # Verbs.
    ("evaluate --workdir=/nowhere", 1, "no checkpoints in /nowhere"),
    ("evaluate --workdir=run --checkpoint=7", 1, "expected latest, best or one of the steps 5"),
    ("evaluate --workdir=damaged", 1, "damaged/config.json cannot be read"),
    *(
        (f"evaluate --workdir={name}", 1, f"{name}/config.json cannot be read: {why}")
        for name, (_, why) in DAMAGED.items()
    ),
    ("evaluate --dataset=cifar10", 1, "--dataset goes with --model"),
    ("evaluate --model=resnet5O --dataset=fake", 1, "did you mean 'resnet50'"),
    ("evaluate --model=lenet --dataset=fake", 1, "no pretrained weights of lenet are known"),
    ("evaluate --model=resnet18 --dataset=cifar10 --config.bach_size=3", 1, "'batch_size'"),
    ("evaluate --model=resnet18 --dataset=folder:/nowhere", 1, "there is no such folder"),
    ("predict a.jpg --weights=a.pth", 1, "--weights goes with --model"),
    ("predict a.jpg --model=resnet18 --config=broken.py", 1, "--model brings its own config"),
    ("predict a.jpg --model=resnet50.v3", 1, "of resnet50 there are resnet50.tv2_in1k"),
    ("predict a.jpg --model=resnet18 --weights=a.txt", 1, "there is no file a.txt"),
    ("predict a.jpg --model=resnet18 --weights=broken.py", 1, "ends with .pth, .safetensors"),
    ("predict a.jpg --model=resnet18", 1, "a.jpg cannot be read"),
    ("predict a.jpg --model=resnet18 --classes=a.txt", 1, "--classes goes with --weights"),
    ("predict pipe --model=resnet18", 1, "pipe cannot be read: it is no file"),
    ("predict a.jpg --workdir=empty", 1, "no checkpoints in empty"),
    ("models --filter=nothing", 1, "no model matches"),
    ("prepare", 1, "--dataset is missing"),
    ("prepare --dataset=zip:no.zip", 1, "there is no such file"),
    ("prepare --dataset=digits --encoding=raw", 1, "--encoding=raw needs --resize"),
    ("prepare --dataset=digits --name=small", 1, "--name and --eval_fraction are not for TFDS's"),
    ("prepare --preview=a.png --config.data.name=folder:/nowhere", 1, "there is no such folder"),
    ("prepare --dataset=digits --resize=-1", 2, "--resize: -1 is not 0 to"),
    ("prepare --dataset=digits --workers=-1", 2, "--workers: -1 is not 0 to"),
    ("prepare --dataset=zip:no.zip --eval_fraction=nan", 1, "--eval_fraction=nan is not"),
    ("prepare --preview=empty", 1, "--preview=empty is a folder"),
    *((f"benchmark --seconds={s}", 2, f"--seconds: {s} is not 0 to") for s in ("nan", "inf", "-1")),
    ("benchmark --config.data.name=csv:no.csv", 1, "there is no such file"),
    ("study --topology=v5e", 1, "there is no topology 'v5e'; there are for instance"),
    ("study --topology=v5f:2x2", 1, "there is no topology 'v5f:2x2'; there are for instance"),
    ("study --topology=h200:1x8", 1, "a GPU topology is KIND:COUNT, as in h200:8"),
    ("study --topology=h200:0", 1, "a GPU topology is KIND:COUNT, as in h200:8"),
    ("study --topology=v100:8", 1, "XLA's GPU compiler has ended its support of v100"),
    ("study --scaling=v5e:2x2,2by4", 1, "there is no topology 'v5e:2by4'"),
    (f"study --topology=h200:{NINES}", 1, "there is no topology"),
    ("study --strong=-1", 2, "--strong: -1 is not 0 to"),
    ("study --batch_per_device=0", 2, "is no list of whole numbers from 1 on"),
    ("study --compare list.json list.json", 1, "list.json is no report of a study"),
    ("study --partitioner=pjit", 1, "one of jit, shard_map, pmap"),
    ("study --batch_per_device=x", 2, "--batch_per_device: 'x' is no list of whole numbers"),
    ("study --compare no.json no.json", 1, "no.json: No such file"),
    ("study --compare broken.py broken.py", 1, "broken.py is no report of a study"),
    ("explain a.jpg --workdir=empty", 1, "no checkpoints in empty"),
    ("explain broken.py --model=resnet50 --method=gradcam", 1, "did you mean 'grad_cam'"),
    ("explain broken.py --model=vit_s16 --method=,", 1, "names none of grad_cam, integrated_gra"),
    ("explain a.jpg --model=vit_s16 --method=attention_rollout --class=cat", 1, "same for every"),
    ("explain a.jpg --model=resnet50 --box=0", 2, "--box: 0 is not 1 to"),
    ("explain broken.py --model=resnet50 --arrays=empty", 1, "--arrays=empty is a folder"),
    ("export --workdir=empty", 1, "empty"),
    ("export --model=resnet50 --format=caffe", 1, "--format=caffe; expected one or more of stabl"),
    ("export --model=resnet50 --format=onnx --platforms=cpu", 1, "goes with --format=stablehlo"),
    ("compress --model=resnet50 --prune=0.5 --importance=l1", 1, "goes with --structure=channels"),
    ("export --model=resnet50 --platforms=", 1, "--platforms=; expected one or more of cpu"),
    ("compress --workdir=empty --prune=0.5", 1, "empty"),
    ("compress --model=resnet50", 1, "--structure=weights needs a share, as in --prune=0.5"),
    ("compress --model=resnet50 --prune=80", 1, "--prune=80; expected shares above 0 and below 1"),
    ("compress --model=resnet50 --structure=4:2", 1, "expected one or more of weights, channels"),
    ("compress --model=resnet50 --prune=0.5 --structure=2:4", 1, "does not go with --structure=2"),
    (
        "compress --model=regnet_y_400mf --prune=0.5 --structure=channels",
        1,
        "model regnet_y_400mf has no option 'channels'",
    ),
    ("compress --model=vgg16 --prune=0.5 --structure=blocks", 1, "vgg16 has no residual blocks"),
    ("compress --model=resnet50 --prune=0.5 --epochs=-1", 2, "--epochs: -1 is not 0 to"),
    ("compress --model=resnet50 --prune=0.5 --distill", 1, "and --epochs is 0"),
    ("study --topology=v5e:2x2 --with_input", 1, "--with_input needs attached devices"),
    ("study --topology=v5e:2x2 --partitioner=pmap", 1, "shard_map compiles the same program"),
    ("sweep", 1, "one of --grid, --random and --bayes"),
    ("sweep --grid seed=1 --random seed=1..2", 1, "one of --grid, --random and --bayes"),
    ("sweep --grid sead=1,2", 1, "did you mean 'seed'"),
    ("sweep --grid optim.name=sgd,adam", 1, "one of sgd, adamw"),
    ("sweep --grid model.name=resnet18,resnet5O", 1, "did you mean 'resnet50'"),
    ("sweep --grid seed=1,2 --trials=-1", 2, "--trials: -1 is not 0 to"),
    ("sweep --grid seed=1,2 --parallel=0", 2, "--parallel: 0 is not 1 to"),
    ("sweep --grid seed=1,2 --folds=1", 1, "config.data.folds = 1 is not possible"),
    ("sweep --grid seed=1,2 --seeds=-1", 2, "is no list of whole numbers from 0 on"),
    ("sweep --grid seed=1..3", 1, "a grid is made of values"),
    ("sweep --bayes optim.learning_rate=0..1:log", 1, "expected 0 < LOW < HIGH"),
    ("sweep --grid seed=1,2 --launcher=gke", 1, "a sweep needs the results of its runs here"),
    ("sweep --grid seed=1,2 --launcher=pbs", 1, "there are local, the default"),
]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """{command line: (exit status, what was printed, heavy modules that are imported by then)}."""
    folder = tmp_path_factory.mktemp("front_door")
    for name in ("empty", "run/checkpoints/5", *(f"{name}/checkpoints" for name in DAMAGED)):
        (folder / name).mkdir(parents=True)
    for name, (content, _) in DAMAGED.items():
        content = content if isinstance(content, bytes) else content.encode()
        (folder / name / "config.json").write_bytes(content)
    (folder / "list.json").write_text("[]")
    os.mkfifo(folder / "pipe")
    (folder / "broken.py").write_text("def get_config():\n    return 1 / 0\n")
    (folder / "none.py").write_text("def get_config():\n    pass\n")
    (folder / "argument.py").write_text("def get_config(argument):\n    return argument\n")
    (folder / "exits.py").write_text("raise SystemExit(3)\n")
    (folder / "finetune.py").write_text((ROOT / "configs/finetune.py").read_text())
    before = {*folder.rglob("*")}
    lines = [line for line, _, _ in (*SHOWN, *WRONG)]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{PROGRAM}"],
        cwd=folder,
        input=json.dumps([line.split() for line in lines]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    left = {path for path in folder.rglob("*") if "__pycache__" not in path.parts}
    assert left - before == {folder / "models.json"}
    return dict(zip(lines, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize(("line", "status", "message"), [*SHOWN, *WRONG])
def test_it_answers_without_jax(told, line, status, message):
    ended, printed, imported = told[line]
    assert (ended, imported) == (status, []), printed
    assert message in printed and "Traceback" not in printed
    assert status != 1 or printed.startswith("error: ")


def test_every_verb_is_tried(told):
    from imagenet_jax.verbs import VERBS as table

    assert tuple(table) == VERBS
    assert all(f"  {verb:10} {known.meaning}" in told["--help"][1] for verb, known in table.items())
