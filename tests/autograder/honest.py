"""What honest notebooks do, of each kind a cell that raises nothing where all goes well."""

from __future__ import annotations

__all__ = ["KINDS"]

KINDS = {
    "training": """
        import torch
        from torch import nn
        from torch.utils.data import DataLoader, TensorDataset
        model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
        optimizer = torch.optim.Adam(model.parameters())
        data = TensorDataset(torch.randn(64, 8), torch.randn(64, 1))
        for x, y in DataLoader(data, 16, shuffle=True, num_workers=2):
            optimizer.zero_grad()
            ((model(x) - y) ** 2).mean().backward()
            optimizer.step()
        torch.set_num_threads(2)
        (torch.randn(400, 400) @ torch.randn(400, 400)).sum()
        torch.nn.functional.conv2d(torch.randn(4, 3, 32, 32), torch.randn(8, 3, 3, 3))
        torch.save(model.state_dict(), "model.pt")
        model.load_state_dict(torch.load("model.pt", mmap=True))
    """,
    "matplotlib": """
        import matplotlib.pyplot as plt
        import numpy as np
        figure, axes = plt.subplots(2, 2)
        axes[0, 0].imshow(np.eye(8))
        axes[0, 1].set_title(r"$\\sum_i x_i^2$")
        axes[1, 0].hist(np.random.randn(100))
        figure.savefig("figure.png"); figure.savefig("figure.pdf"); figure.savefig("figure.svg")
        plt.close(figure)
    """,
    "pandas": """
        import io
        try: import pandas as pd
        except ImportError: pd = None
        if pd is not None:
            table = pd.DataFrame({"a": [1, 2, 3], "b": list("xyz")})
            table.to_csv("table.csv")
            pd.read_csv("table.csv").groupby("b").a.mean().to_json("table.json")
    """,
    "scipy": """
        import numpy as np
        from scipy import linalg, optimize, stats
        linalg.svd(np.random.randn(50, 50))
        optimize.minimize(lambda x: (x ** 2).sum(), np.ones(3))
        stats.norm.rvs(size=10)
    """,
    "subprocess": """
        import os, subprocess, sys
        assert subprocess.run(["ls", "-l", "/usr"], capture_output=True, check=True).stdout
        shell = subprocess.run("echo a | tr a b", shell=True, capture_output=True)
        assert shell.stdout == b"b\\n"
        one = subprocess.Popen(["sleep", "0"], start_new_session=True)
        assert one.wait() == 0
        two = subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True, text=True)
        assert two.stdout == "42\\n", two.stderr
        assert os.system("true") == 0 and os.popen("echo x").read() == "x\\n"
        three = subprocess.Popen(["sleep", "100"])
        three.terminate(); three.wait()
        try: subprocess.run(["sleep", "100"], timeout=0.1)
        except subprocess.TimeoutExpired: pass
        subprocess.run(["bash", "-c", "set -m; sleep 0 & wait; cp /etc/ld.so.cache c; rm c; "
                        "mkdir d; touch d/e; ls -la d; mv d f; find f; tar cf t.tar f; gzip t.tar; "
                        "head -c 9 t.tar.gz | wc -c; sort -u /proc/cpuinfo | grep -c . ; "
                        "date; uname -a; df . ; du -s ."], check=True, capture_output=True)
    """,
    "multiprocessing": """
        import multiprocessing as mp, os
        def double(x): return 2 * x
        context = mp.get_context("fork")
        with context.Pool(2) as pool: assert pool.map(double, range(9)) == list(range(0, 18, 2))
        queue, value, event = context.Queue(), context.Value("i", 3), context.Event()
        def work(): queue.put(value.value); event.set()
        child = context.Process(target=work); child.start(); child.join()
        assert queue.get() == 3 and event.is_set() and child.exitcode == 0
        a, b = context.Pipe()
        a.send({"x": 1}); assert b.recv() == {"x": 1}
        from multiprocessing.shared_memory import SharedMemory
        shared = SharedMemory(create=True, size=4096); shared.buf[0] = 1
        shared.close(); shared.unlink()
        with context.Manager() as manager: manager.list([1]).append(2)
        import torch, torch.multiprocessing as tmp
        tensors, taken = tmp.get_context("fork").Queue(), context.Event()
        other = context.Process(target=lambda: tensors.put(torch.ones(3)) or taken.wait(9))
        other.start(); assert tensors.get().sum() == 3; taken.set(); other.join()
        from concurrent.futures import ProcessPoolExecutor
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            assert list(pool.map(double, [1])) == [2]
    """,
    "threads": """
        import queue, threading, time
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(8) as pool: assert sum(pool.map(abs, range(-9, 0))) == 45
        lock, done = threading.Lock(), threading.Event()
        timer = threading.Timer(0.01, done.set); timer.start(); assert done.wait(5)
        with lock: time.sleep(0.01)
    """,
    "asyncio": """
        import asyncio
        async def main():
            await asyncio.sleep(0.01)
            one = await asyncio.create_subprocess_exec("echo", "x", stdout=asyncio.subprocess.PIPE)
            assert (await one.communicate())[0] == b"x\\n"
            return await asyncio.to_thread(lambda: 3)
        import threading
        found = []
        one = threading.Thread(target=lambda: found.append(asyncio.run(main())))
        one.start(); one.join()
        assert found == [3]
        assert await asyncio.gather(asyncio.sleep(0, 1)) == [1]
    """,
    "files": """
        import mmap, os, pathlib, shutil, tempfile
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "a.txt")
            path.write_text("x"); path.rename(path.with_name("b.txt"))
            shutil.copytree(folder, "copy"); shutil.copy2("copy/b.txt", "c.txt")
            os.link("c.txt", "d.txt"); os.symlink("c.txt", "e.txt"); os.chmod("c.txt", 0o600)
            os.utime("c.txt"); os.truncate("c.txt", 0); os.stat("c.txt"); os.statvfs(".")
            assert len(list(pathlib.Path().glob("?.txt"))) == 3
            shutil.move("copy", "moved"); shutil.rmtree("moved"); shutil.disk_usage(".")
        with tempfile.NamedTemporaryFile() as file:
            file.write(bytes(8192)); file.flush(); os.fsync(file.fileno())
            with mmap.mmap(file.fileno(), 0) as mapped: mapped[0] = 1; mapped.flush()
        with tempfile.TemporaryFile() as file: os.pwrite(file.fileno(), b"x", 9)
        import numpy as np
        np.save("x.npy", np.ones(9)); np.load("x.npy", mmap_mode="r").sum()
        np.memmap("y.bin", "f4", "w+", shape=9)[:] = 1
        os.umask(os.umask(0)); os.getcwd(); os.chdir("."); os.cpu_count();
        shutil.make_archive("z", "gztar", "."); os.remove("d.txt"); os.access("c.txt", os.R_OK)
    """,
    "sqlite3": """
        import sqlite3
        base = sqlite3.connect("base.db", isolation_level=None)
        base.execute("create table t (x)")
        base.execute("begin")
        base.executemany("insert into t values (?)", [(1,), (2,)])
        other = sqlite3.connect("base.db")
        assert other.execute("select count(*) from t").fetchone() == (0,)
        other.close()
        base.execute("commit")
        assert base.execute("select sum(x) from t").fetchone() == (3,)
        base.close()
    """,
    "archives": """
        import bz2, gzip, json, lzma, pickle, tarfile, zipfile
        with zipfile.ZipFile("a.zip", "w", zipfile.ZIP_DEFLATED) as file: file.writestr("x", "y")
        assert zipfile.ZipFile("a.zip").read("x") == b"y"
        with tarfile.open("a.tar.gz", "w:gz") as file: file.add("a.zip")
        with tarfile.open("a.tar.gz") as file: file.extractall("out")
        for kind in (gzip, bz2, lzma):
            with kind.open("a", "wb") as file: file.write(b"x")
            assert kind.open("a").read() == b"x"
    """,
    "shell": """
        found = !ls /usr
        assert "bin" in found
        !ls / | head -n 2
        !cat /proc/version
        %system echo x
    """,
    "magics": """
        get_ipython().run_cell_magic("bash", "", "echo $(ls /usr | wc -l)")
        get_ipython().run_cell_magic("writefile", "m.py", "x = 3")
        get_ipython().run_line_magic("run", "m.py")
        get_ipython().run_line_magic("timeit", "-n 1 -r 1 1")
        get_ipython().run_line_magic("time", "1")
        get_ipython().run_line_magic("pwd", "")
        assert x == 3
    """,
    "pictures": """
        import numpy as np
        from PIL import Image
        Image.fromarray(np.zeros((8, 8), np.uint8)).save("p.png")
        Image.open("p.png").resize((4, 4)).convert("RGB").save("p.jpg")
    """,
    "system": """
        import ctypes, getpass, locale, os, platform, random, resource, secrets, select, signal
        import socket, sys, time, uuid
        platform.platform(); uuid.uuid4(); secrets.token_hex(); os.urandom(9); os.times()
        resource.getrusage(resource.RUSAGE_SELF); resource.getrlimit(resource.RLIMIT_NOFILE)
        signal.signal(signal.SIGALRM, lambda *_: None); signal.alarm(1); signal.alarm(0)
        signal.setitimer(signal.ITIMER_REAL, 0.01); time.sleep(0.05)
        left, right = socket.socketpair(); left.send(b"x"); assert right.recv(1) == b"x"
        left.shutdown(socket.SHUT_RDWR); socket.gethostname()
        poll = select.epoll(); poll.register(right); poll.poll(0); select.select([right], [], [], 0)
        os.eventfd(0); os.nice(0); os.getpriority(os.PRIO_PROCESS, 0); os.sched_getaffinity(0)
        os.getpgid(0); os.getsid(0); os.getgroups(); os.getresuid(); os.ctermid()
        if os.fork() == 0: os._exit(0)
        os.wait(); read, write = os.pipe(); os.write(write, b"x"); os.dup(read); os.close(read)
        ctypes.CDLL(None).getpid(); locale.getlocale(); sys.getswitchinterval(); time.localtime()
    """,
}
