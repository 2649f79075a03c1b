//! What `--help` says of the program and of each command: what it is for, then examples.

/// What is said of the program itself.
pub(super) const DEEPSEEK: &str = "Train, watch, evaluate and sample DeepSeek-V3 models on \
                                   Burn.\n\n\
    Begin with `deepseek train`: it needs nothing else, and trains a small DeepSeek-V3 (MLA, MoE, \
    MTP) on a built-in \
    corpus in minutes on a CPU. `deepseek check` prints what a configuration means before anything \
    is spent on it.\n\n\
    Exit codes: 0 done, 2 what was given is wrong, 3 something failed while it ran, 130 stopped by \
    Ctrl-C.";

/// What is said of `train`.
pub(super) const TRAIN: &str = "Train a model, or go on training one.\n\n\
    What is trained, on what and for how long is one TOML file; without --config it is the \
    built-in quickstart. What of the configuration is no default is printed; all of it is in run.toml \
    in the run's folder, and stored with every checkpoint. Ctrl-C saves a checkpoint and says where.\n\n\
    Examples:\n  \
    deepseek train\n  \
    deepseek train --config tiny-text --data my-book.txt --tokens 1500000\n  \
    deepseek train --config my-run.toml --set schedule.lr=1e-3 --set train.micro_batch=4 --device \
    wgpu\n  \
    deepseek train --devices ws://a:3000,ws://b:3000 --set parallel.pipeline=2 --token-file \
    token\n  \
    deepseek train --dashboard\n  \
    deepseek train --resume runs/quickstart-001";

/// What is said of `eval`.
pub(super) const EVAL: &str = "Measure a checkpoint's loss on held-out or other data.\n\n\
    The run's own held-out data is taken unless --data names another, which a Hugging Face folder \
    needs. The tokenizer is always the model's. With --save-routing the experts of every token are \
    saved, and with --routing taken from such a file, in whatever --format.\n\n\
    Examples:\n  \
    deepseek eval --checkpoint runs/quickstart-001\n  \
    deepseek eval --checkpoint hf/my-model --data a-book.txt --seq-len 1024\n  \
    deepseek eval --checkpoint runs/tiny-text-001 --data another-book.txt --batches 50 --json\n  \
    deepseek eval --checkpoint runs/quickstart-001 --save-routing held-out.routing\n  \
    deepseek eval --checkpoint runs/quickstart-001 --routing held-out.routing --format fp8";

/// What is said of `generate`.
pub(super) const GENERATE: &str = "Continue a prompt with a trained model.\n\n\
    The checkpoint is a run of this program or a Hugging Face folder (config.json, safetensors, \
    tokenizer.json). The latent KV \
    cache is always on. With --speculative the MTP modules draft tokens that the model verifies in \
    one pass: greedy output is \
    the same token for token, and the acceptance rate is printed. With --expert-placement the \
    experts are where \
    `deepseek plan experts` has them, the busiest more than once; the text is the same.\n\n\
    Examples:\n  \
    deepseek generate --checkpoint runs/quickstart-001 --prompt \"the \"\n  \
    deepseek generate --checkpoint runs/tiny-text-001 --prompt ROMEO: --temperature 0.8 --top-p \
    0.95 --seed 1\n  \
    deepseek generate --checkpoint hf/my-model --prompt Hello --speculative --max-new-tokens 64 \
    --json\n  \
    deepseek generate --checkpoint hf/my-model --prompt Hello --expert-placement placement.json \
    --devices cuda:0,cuda:1";

/// What is said of `inspect`.
pub(super) const INSPECT: &str = "Look at what a checkpoint makes of a text, token by token and \
                                  layer by layer.\n\n\
    Each token has its loss, whether the MTP modules agree with the main model about it, and the \
    experts that it chose. What if an expert were switched off, a bias moved, more groups kept, or \
    the format another? The text is looked at again, and what moved is told. --out has everything: \
    scores, biases, kept groups, chosen experts, gate values.\n\n\
    Examples:\n  \
    deepseek inspect --checkpoint runs/quickstart-001 --prompt \"the small cat\"\n  \
    deepseek inspect --checkpoint runs/quickstart-001 --prompt \"the small cat\" --layer 1\n  \
    deepseek inspect --checkpoint runs/quickstart-001 --prompt \"the small cat\" --disable 1:3\n  \
    deepseek inspect --checkpoint runs/tiny-text-001 --text page.txt --what-if-format fp8 --out \
    page.jsonl\n  \
    deepseek inspect --checkpoint runs/quickstart-001 --other runs/quickstart-002 --text page.txt";

/// What is said of `export`.
pub(super) const EXPORT: &str = "Write a model for other programs: a folder that transformers, \
                                 vLLM and sglang load.\n\n\
    The checkpoint is a run of this program or a Hugging Face folder, whose weights are converted. \
    With --dtype fp8 the linears are E4M3 codes with a scale for each block of 128 x 128, as \
    DeepSeek publishes them; FP8 that is there already is kept bit for bit where its scales are of \
    the wanted format. Beside the weights are config.json, generation_config.json, the tokenizer \
    and a README.md to go on from. Weights pass one at a time, and every byte is read back. Ctrl-C \
    leaves nothing behind.\n\n\
    Examples:\n  \
    deepseek export --checkpoint runs/quickstart-001 --out hf/quickstart\n  \
    deepseek export --checkpoint runs/tiny-text-001 --out hf/tiny-fp8 --dtype fp8 --ema\n  \
    deepseek export --checkpoint hf/my-model --out hf/my-model-bf16 --dtype bf16 \
    --max-shard-size 2GB --json";

/// What is said of `check`.
pub(super) const CHECK: &str = "Print a configuration resolved, its parameter counts and its \
                                memory. Nothing is allocated.\n\n\
    What is printed is TOML (the counts are comments in it), so it can be kept and fed back; with \
    --json it is one object and nothing else. --preset and --hugging-face \
    look at a model alone, without a run; --checkpoint at a folder of weights.\n\n\
    Examples:\n  \
    deepseek check --preset deepseek-v3-671b\n  \
    deepseek check --config my-run.toml --set model.n_routed_experts=16\n  \
    deepseek check --hugging-face path/to/config.json --json\n  \
    deepseek check --checkpoint path/to/model --deep";

/// What is said of `compare-precision`.
pub(super) const COMPARE_PRECISION: &str = "Train the same run in several precisions and compare \
                                            their losses.\n\n\
    Every run has the same weights to begin with and the same data in the same order. The relative \
    error against the first run \
    is that of losses smoothed as in the report (B.1), whose bar is 0.25%. A table, a plot and an \
    object go to \
    compare-precision.{md,svg,json} in --out, after each run; Ctrl-C ends it with what there \
    is. With --fixed-routing the other runs take the experts that the first one chose, so that what \
    is left is the precision's own; with --fixed-routing beside each is trained both ways.\n\n\
    Runs: f32, f32-split (the same sums in another order), bf16, fp8 (the report's recipe), \
    fp8-14bit (not promoted), \
    fp8-14bit-promoted, fp8-tensor, fp8-block-gradients, fp8-requantized, fp8-power-of-two. Each \
    sets keys of [precision] over \
    the configuration and every --set.\n\n\
    Examples:\n  \
    deepseek compare-precision --data my-book.txt\n  \
    deepseek compare-precision --data my-book.txt --runs bf16,fp8,fp8-requantized --out \
    runs/kept\n  \
    deepseek compare-precision --data my-book.txt --runs f32,f32-split,fp8 --seeds 4\n  \
    deepseek compare-precision --data my-book.txt --runs f32,fp8 --fixed-routing beside\n  \
    deepseek compare-precision --config my-run.toml --tokens 500000 --set schedule.lr=1e-3 --json";

/// What is said of `worker`.
pub(super) const WORKER: &str = "Lend this machine's devices to trainings of other processes and \
                                 machines.\n\n\
    A training names them as ws://host:port (ws://host:port/1 for the second device), its ranks \
    compute there, and rows of tokens go \
    from worker to worker where each has one rank. Both sides must be the same release. A worker \
    serves one training at a time and \
    keeps nothing: what a training leaves is in its own checkpoints. Ctrl-C or SIGTERM ends it.\n\n\
    WebSocket is not encrypted: a token keeps strangers out, not listeners. Lend devices on a \
    network that you trust.\n\n\
    Examples:\n  \
    deepseek worker --listen 127.0.0.1:3000\n  \
    deepseek worker --listen 0.0.0.0:3000 --device cuda:0,cuda:1 --token-file token\n  \
    deepseek train --devices ws://a:3000,ws://b:3000 --set parallel.pipeline=2 --token-file token";

/// What is said of `bench`.
pub(super) const BENCH: &str = "Time training, generation, kernels, an exchange of rows or the way \
                                between ranks: the median of --reps repetitions after \
                                --warmup.\n\n\
    Examples:\n  \
    deepseek bench train\n  \
    deepseek bench scale --axis seq,experts\n  \
    deepseek bench generate --reps 9 --warmup 3 --device cuda:0 --json\n  \
    deepseek bench kernels --json\n  \
    deepseek bench dispatch --device cuda --json\n  \
    deepseek bench links --out machine.toml";

/// What is said of `bench train`.
pub(super) const BENCH_TRAIN: &str = "Time whole training steps: forward, backward, optimizer.\n\n\
    The model is that of the PyTorch script which the figures are compared with: 5.6M parameters, \
    8 x 256 tokens a step. A step has schedule.global_batch sequences, in micro-batches of \
    train.micro_batch; with [parallel] set, all ranks are on the device. `rate` is the arithmetic \
    of the products, attention over its causal half included and nothing counted twice, beside \
    the peak of this processor's instruction on all cores.\n\n\
    Examples:\n  \
    deepseek bench train\n  \
    deepseek bench train --beside precision.format=fp8 --beside precision.format=bf16\n  \
    deepseek bench train --set model.preset=small --set precision.format=fp8\n  \
    deepseek bench train --set model.n_routed_experts=32 --set train.micro_batch=4";

/// What is said of `bench scale`.
pub(super) const BENCH_SCALE: &str = "Time training steps of growing length, experts, depth, \
                                      width, micro-batch and ranks.\n\n\
    The model is that of `bench train`. Every point runs in a process of its own, and the fastest \
    of its repetitions counts; one that does not fit into memory is left out. Beside each time and \
    the peak of memory is the exponent with which it grew from the row above (0: not at all, 1: twice as much for twice the value, 2: \
    four times), and what it must be: that of the least time which the arithmetic and the bytes \
    of the weights take at this machine's best, and of the memory on paper. All axes take some \
    minutes.\n\n\
    Examples:\n  \
    deepseek bench scale\n  \
    deepseek bench scale --axis seq,experts --set precision.format=fp8 --json\n  \
    deepseek bench scale --axis width --max 512 --reps 5";

/// What is said of `bench generate`.
pub(super) const BENCH_GENERATE: &str = "Time prefill of 512 tokens and decoding of 64.\n\n\
    The model is that of `bench train`.\n\n\
    Examples:\n  \
    deepseek bench generate\n  \
    deepseek bench generate --reps 9 --warmup 3 --device cuda:0 --json";

/// What is said of `bench kernels`.
pub(super) const BENCH_KERNELS: &str = "Time FP8 casts and products, each beside Burn's own.\n\n\
    Shapes are DeepSeek's, a 1024 cube and those of training. Each is timed in turn with Burn's \
    own product in F32 (on a GPU in BF16 where it has it) or with a copy of as many bytes; `diff` \
    is calc_diff against the unquantized product.\n\n\
    Examples:\n  \
    deepseek bench kernels --json\n  \
    deepseek bench kernels --device cuda --only fprop --reps 31";

/// What is said of `bench dispatch`.
pub(super) const BENCH_DISPATCH: &str = "Time rows to experts on other ranks and back.\n\n\
    It is what a MoE layer does between ranks: rows packed in FP8, BF16 and F32, exchanged, \
    unpacked, combined. Each step is timed in turn with a plain copy of as many bytes.\n\n\
    Examples:\n  \
    deepseek bench dispatch --device cuda --json\n  \
    deepseek bench dispatch --only \"pack fp8\"";

/// What is said of `bench links`.
pub(super) const BENCH_LINKS: &str = "Time the way between ranks: messages by size, the exchange \
                                      of a layer, the sums of gradients.\n\n\
    Ranks are threads of this process, or the processes that mpirun or srun has started. Beside \
    that every rank takes steps of the run alone, all of them at the same time, so that what a \
    layer costs on a rank's share of the machine is known too. --out writes all of it as a \
    cluster's file: `plan cluster` with it predicts a step of the run in any layout of these \
    ranks. Between processes the library's own collective calls are timed beside the messages \
    that a run sends.\n\n\
    Examples:\n  \
    deepseek bench links\n  \
    deepseek bench links --ranks 4 --ranks-per-node 2 --json\n  \
    deepseek bench links --set train.micro_batch=1 --out machine.toml\n  \
    mpirun -n 2 deepseek bench links --config my-run.toml --out machine.toml\n  \
    deepseek plan cluster --config my-run.toml --cluster ./machine.toml --set parallel.expert=2";

/// What is said of `plan`.
pub(super) const PLAN: &str = "Work out on paper what a run would be like; nothing is allocated or \
                               trained.\n\n\
    Examples:\n  \
    deepseek plan schedule --kind dualpipe --ranks 8 --chunks 20\n  \
    deepseek plan schedule --kind zb1p --ranks 8 --chunks 20 --json\n  \
    deepseek plan experts --loads runs/quickstart-001 --replicas 24 --gpus 8\n  \
    deepseek plan cluster --preset deepseek-v3-671b --cluster h800-2048";

/// What is said of `plan schedule`.
pub(super) const PLAN_SCHEDULE: &str = "Draw a pipeline's schedule: who does what when, idle time, \
                                        activations (report, 3.2.1).\n\n\
    The schedule is proved first: every dependency is kept, every message has its partner, no rank \
    waits for ever. Then it is carried \
    out with the times given, each rank waiting at its exchanges for what it receives there, and \
    its idle time stands beside the \
    report's formula. dualpipe needs an even number of ranks and an even number of chunks, at \
    least twice the ranks; dualpipev at least twice \
    the ranks.\n\n\
    Examples:\n  \
    deepseek plan schedule --kind dualpipe --ranks 8 --chunks 20\n  \
    deepseek plan schedule --kind 1f1b --ranks 4 --chunks 8 --backward-input 1.2 --weight 0.8\n  \
    deepseek plan schedule --kind dualpipev --ranks 4 --chunks 10 --overlapped 2.5 --svg \
    timeline.svg --trace timeline.json";

/// What is said of `plan cluster`.
pub(super) const PLAN_CLUSTER: &str = "Reckon memory, traffic, time and GPU hours of a run on a \
                                       cluster (report, 3.2).\n\n\
    The cluster's file has the hardware, the fraction of it that is attained (each with its source \
    in a comment), and in [plan] how a model \
    is spread over it where no run says so: pipeline x expert x data ranks, one for each GPU. Of a \
    run the largest batch is planned; \
    --set plan.KEY is laid over what the run says. Operations are counted from the configuration; \
    the schedule is timed as in `plan schedule`. Where the file knows what a run of the same model \
    took, the account says what each \
    assumption alone would have to be to explain the difference.\n\n\
    Examples:\n  \
    deepseek plan cluster\n  \
    deepseek plan cluster --set plan.schedule=1f1b --set rates.linear_fp8=0.5\n  \
    deepseek plan cluster --preset deepseek-v2-lite-16b --cluster gpu-8\n  \
    deepseek plan cluster --preset quickstart --cluster cpu-2 --json";

/// What is said of `plan experts`.
pub(super) const PLAN_EXPERTS: &str = "Place experts on GPUs by measured loads, the busiest more \
                                       than once (report, 3.4).\n\n\
    Loads are those of a run's last evaluation, or of data that you choose: `deepseek eval \
    --expert-loads`. Where --nodes divides \
    --groups, groups are spread over nodes first and stay together; replicas of a layer's experts \
    then go on the GPUs of their node. \
    Otherwise all GPUs are alike. Every GPU has as many places, so --gpus divides --replicas, \
    which is at least the number of \
    experts. Beside each placement stands max load / mean load of the GPUs, with the experts in \
    their order and placed. The placement is that of DeepSeek's published algorithm, which may put \
    replicas of one expert on one GPU; that is said, and --distinct parts them.\n\n\
    Examples:\n  \
    deepseek plan experts --loads runs/quickstart-001 --replicas 24 --gpus 8\n  \
    deepseek eval --checkpoint runs/tiny-text-001 --data my-book.txt --expert-loads loads.json\n  \
    deepseek plan experts --loads loads.json --replicas 320 --nodes 4 --gpus 32 --out \
    placement.json --json";

/// What is said of `runs`.
pub(super) const RUNS: &str = "List, show, watch, compare, export, label and delete runs.\n\n\
    A run is its folder: run.toml, metrics.jsonl, checkpoints. None of these commands loads a model. \
    Tags and notes are in labels.json in the run's folder.\n\n\
    Examples:\n  \
    deepseek runs list\n  \
    deepseek runs list runs sweeps --sort valid --tag baseline\n  \
    deepseek runs show runs/quickstart-001\n  \
    deepseek runs watch runs/quickstart-001\n  \
    deepseek runs compare runs/quickstart-001 runs/quickstart-002\n  \
    deepseek runs export runs/quickstart-001 --out steps.csv\n  \
    deepseek runs tag runs/quickstart-001 baseline\n  \
    deepseek runs delete runs/quickstart-002 --yes";

/// What is said of `dashboard`.
pub(super) const DASHBOARD: &str = "Show runs in a browser.\n\n\
    A page of all runs in the folders, and of each its curves, experts, samples, alerts and \
    configuration, as they grow. Tags, notes and the archive can be edited there. The pages come \
    from this program alone, and nothing else is fetched. Ctrl-C or SIGTERM ends it.\n\n\
    Without a token only this machine reaches it. HTTP is not encrypted: a token keeps strangers \
    out, not listeners. Open the address with ?token=... once; the browser keeps it.\n\n\
    Examples:\n  \
    deepseek dashboard\n  \
    deepseek dashboard runs sweeps --listen 127.0.0.1:8080\n  \
    deepseek dashboard --listen 0.0.0.0:6007 --token-file token\n  \
    deepseek train --dashboard";

/// What is said of `report`.
pub(super) const REPORT: &str = "Write a report on runs: curves, tables, samples, configuration.\n\n\
    A folder with report.md and its pictures (SVG), or one HTML file that needs nothing else and \
    nothing from the network; both with --out and --html, and the folder RUN-report where neither \
    is given. Of several runs, or a folder with runs in it, curves are laid over each other and \
    what differs is in a table. No model is loaded, and a run may be going on.\n\n\
    Examples:\n  \
    deepseek report runs/quickstart-001\n  \
    deepseek report runs/quickstart-001 --html quickstart.html\n  \
    deepseek report runs/quickstart-001 runs/quickstart-002 --out two --html two.html --force";

/// What is said of `completions`.
pub(super) const COMPLETIONS: &str = "Print completions for a shell.\n\n\
    Examples:\n  \
    deepseek completions bash > ~/.local/share/bash-completion/completions/deepseek\n  \
    deepseek completions zsh > ~/.zfunc/_deepseek\n  \
    deepseek completions fish > ~/.config/fish/completions/deepseek.fish";

/// What is said of `man`.
pub(super) const MAN: &str = "Print the manual page, or write one for each command.\n\n\
    Examples:\n  \
    deepseek man | man -l -\n  \
    deepseek man --out ~/.local/share/man/man1";

/// What is said of `runs list`.
pub(super) const RUNS_LIST: &str = "List runs: how far each is, its losses, speed, alerts and \
    tags.\n\n\
    Runs are looked for in the given folders and up to four levels below. `training` is said of a \
    run that a process has the folder of. What cannot be read is told below the list.\n\n\
    Examples:\n  \
    deepseek runs list\n  \
    deepseek runs list runs sweeps --sort valid --tag baseline\n  \
    deepseek runs list --all --json";

/// What is said of `runs show`.
pub(super) const RUNS_SHOW: &str = "Show what is known of a run, without loading its model.\n\n\
    Examples:\n  \
    deepseek runs show runs/quickstart-001\n  \
    deepseek runs show runs/quickstart-001 --json";

/// What is said of `runs watch`.
pub(super) const RUNS_WATCH: &str = "Watch a run as it is trained, in the terminal; a run that has \
    ended as it was.\n\n\
    It reads the run's record as that grows, from whatever process writes it, and changes nothing: \
    q leaves, and the run goes on. Elsewhere than on a terminal, or with --plain, it prints lines of \
    progress until the run is no longer trained; with --json nothing but its results then.\n\n\
    Examples:\n  \
    deepseek runs watch runs/quickstart-001\n  \
    deepseek runs watch runs/quickstart-001 --plain";

/// What is said of `runs compare`.
pub(super) const RUNS_COMPARE: &str = "Lay runs beside each other: in what they differ, and what \
    came of it.\n\n\
    A row a run, with a column for every key of the configuration that not all of them have alike. \
    A folder with runs in it stands for all of them.\n\n\
    Examples:\n  \
    deepseek runs compare runs/quickstart-001 runs/quickstart-002\n  \
    deepseek runs compare sweeps --json";

/// What is said of `runs export`.
pub(super) const RUNS_EXPORT: &str = "Write a run's record for other programs: as CSV, as Parquet, \
    for TensorBoard.\n\n\
    A table has the lines of one kind, with a column a key; rows of layers and experts are JSON \
    text. With --tensorboard it is event files with the whole of it: scalars, histograms of the \
    experts' loads, samples, the configuration as hparams.\n\n\
    Examples:\n  \
    deepseek runs export runs/quickstart-001 --out steps.csv\n  \
    deepseek runs export runs/quickstart-001 --kind evaluation --out evaluations.parquet\n  \
    deepseek runs export runs/quickstart-001 --tensorboard logs/quickstart-001";

/// What is said of `runs tag`.
pub(super) const RUNS_TAG: &str = "Add tags to a run, or take them away.\n\n\
    Examples:\n  \
    deepseek runs tag runs/quickstart-001 baseline seed-0\n  \
    deepseek runs tag runs/quickstart-001 seed-0 --remove";

/// What is said of `runs note`.
pub(super) const RUNS_NOTE: &str = "Write a note on a run; an empty one removes it.\n\n\
    Examples:\n  \
    deepseek runs note runs/quickstart-001 \"the first that went well\"\n  \
    deepseek runs note runs/quickstart-001 \"\"";

/// What is said of `runs archive`.
pub(super) const RUNS_ARCHIVE: &str = "Leave a run out of lists.\n\n\
    Examples:\n  \
    deepseek runs archive runs/quickstart-001\n  \
    deepseek runs archive runs/quickstart-001 --undo";

/// What is said of `runs delete`.
pub(super) const RUNS_DELETE: &str = "Delete a run's folder with all that is in it.\n\n\
    Without --yes the command says what it would delete, and ends with exit code 2. A run that is \
    being trained is not deleted.\n\n\
    Examples:\n  \
    deepseek runs delete runs/quickstart-002\n  \
    deepseek runs delete runs/quickstart-002 --yes";
