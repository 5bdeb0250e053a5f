"A notebook's cells in a process that has the large libraries already: a copy of one that has imported them and nothing else."
import multiprocessing, os
from pathlib import Path

LARGE = ['torch', 'transformers.models.llama.modeling_llama', 'onnxruntime', 'onnx_ir', 'pandas', 'matplotlib.figure', 'nbdev.test'] # none brings bitsandbytes, which notebooks want to see missing
processes = multiprocessing.get_context('forkserver')
processes.set_forkserver_preload(LARGE)

def _test(notebook, flags, cwd, log):
    with log.open('wb') as f:
        for fd in 1,2: os.dup2(f.fileno(), fd)
    os.chdir(cwd)
    from nbdev.test import nbdev_test
    nbdev_test(path=str(notebook), flags=' '.join(flags))

def run_cells(notebook:Path, flags:list[str], cwd:Path, log:Path, timeout=870) -> str:
    "`nbdev_test` for one notebook of the project at `cwd`: empty, or what it said when a cell failed"
    log.touch() # there is something to read even if the process does not come that far
    process = processes.Process(target=_test, args=(notebook, flags, cwd, log))
    process.start()
    process.join(timeout)
    process.kill()
    process.join()
    return '' if process.exitcode == 0 else f'exit status {process.exitcode}\n{log.read_text()}'
