#!/usr/bin/env python3
"""What it costs to find out who leaks: the same program (harness/cli/tests/programs/leak_stacks.c) alone, recorded,
recorded with stacks, under heaptrack and under valgrind, in turns. Prints medians with lowest and highest: seconds of
the whole command, and the most memory a process of it held. Needs cc and a built fragbench; tools that are missing are
left out.

    benches/leak_tools.py [ROUNDS [TIMES]]     default 5 2000: a million blocks in each run; FRAGBENCH_TARGET names the directory of the
                                               built programs
"""
import os, pathlib, shutil, statistics, subprocess, sys, tempfile, time

rounds, times = [int(a) for a in (sys.argv[1:] + ["5", "2000"][len(sys.argv) - 1:])][:2]
root = pathlib.Path(__file__).resolve().parent.parent
target = pathlib.Path(os.environ.get("FRAGBENCH_TARGET", root / "target/release")).resolve()
programs = root / "harness/cli/tests/programs"
with tempfile.TemporaryDirectory() as dir:
    def build(source, out, *flags):
        subprocess.run(["cc", "-O1", "-g", "-fno-builtin", "-pthread", *flags, programs / source, "-o", f"{dir}/{out}", "-ldl"],
                       check=True)
    build("leak_stacks.c", "leak")
    for name, size in [("plugin_make", 777), ("other_make", 888)]:
        build("leak_plugin.c", f"{name}.so", "-fPIC", "-shared", f"-DNAME={name}", f"-DSIZE={size}")
    run = [f"{dir}/leak", f"{dir}/plugin_make.so", f"{dir}/other_make.so", str(times)]
    record = [str(target / "fragbench"), "record", "-o", f"{dir}/leak.fbt"]
    tools = {
        "alone": run,
        "record": [*record, "--", *run],
        "record --stacks": [*record, "--stacks", "--", *run],
        "heaptrack": ["heaptrack", "-o", f"{dir}/heaptrack", *run],
        "valgrind": ["valgrind", "--leak-check=full", "--show-leak-kinds=all", *run],
    }
    found = {name: ([], []) for name, command in tools.items() if shutil.which(command[0])}
    for _ in range(rounds):
        for name, (seconds, memory) in found.items():
            with open(f"{dir}/output", "w") as output:
                began = time.monotonic()
                child = subprocess.Popen(tools[name], stdout=output, stderr=output)
                _, status, usage = os.wait4(child.pid, 0)
            assert status == 0, f"{name}: " + open(f"{dir}/output").read()
            seconds.append(time.monotonic() - began)
            memory.append(usage.ru_maxrss / 1024)
    alone = statistics.median(found["alone"][0])
    for name, (seconds, memory) in found.items():
        middle = statistics.median(seconds)
        print(f"{name:16} {middle:8.3f} s ({min(seconds):.3f} to {max(seconds):.3f})  {middle / alone:6.1f} times"
              f"  {statistics.median(memory):7.1f} MiB")
    print("bytes of the trace with stacks:", end=" ")
    subprocess.run(tools["record --stacks"], check=True, stderr=subprocess.DEVNULL)
    print(os.path.getsize(f"{dir}/leak.fbt"))
