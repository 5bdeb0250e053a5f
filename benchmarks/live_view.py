"""What the live view costs, in a real kernel: messages of a run with 1,000 logged steps, and time with and without it.

`python benchmarks/live_view.py [--threads 1] [--rounds 3] [--quick]`; about five minutes.
"""
import argparse, json, tempfile
from statistics import median
from _common import bar, described, offline, publish, table

# In blocks of steps the view takes turns with nothing, within one run, so that a busy machine slows both. All rows have one length, so that all steps are alike
PAIRED = '''
import json, time
from slm_magic import finetune
from slm_magic.live import LiveView
from slm_magic.run import Listener
class Clock(Listener):
    def __init__(self): self.marks = []
    def on_step(self, run, step): self.marks.append((time.process_time(), time.perf_counter()))
class Turns(LiveView):
    def on_step(self, run, step):
        if step//{block} % 2 == {turn}: super().on_step(run, step)
words,clock = 'river stone moon lamp table'.split(),Clock()
rows = [dict(prompt=' '.join(words[(i*j+j)%5] for j in range(30)), completion=words[i%5]) for i in range(200)]
finetune(None, rows, eval=0, samples=0, max_steps={steps}, logging_steps=1, save_strategy='no', listeners=[clock, Turns('notebook')])
print(json.dumps(clock.marks))
'''

class Kernel:
    "A kernel with a frontend that counts what it is sent."
    def __init__(self, folder, threads):
        from jupyter_client.manager import start_new_kernel
        self.km,self.kc = start_new_kernel(kernel_name='python3', cwd=folder, env=offline(threads))
        self.run('%load_ext slm_magic')

    def close(self):
        self.kc.stop_channels()
        self.km.shutdown_kernel(now=True)

    def run(self, code) -> tuple[str, int, int]: # what it printed, how many displays it sent, and their bytes on the wire
        "Run a cell."
        cell,printed,shown,size = self.kc.execute(code, allow_stdin=True),'',0,0
        while True:
            parts = self.kc.iopub_channel.socket.recv_multipart()
            msg = self.kc.session.deserialize(self.kc.session.feed_identities(parts)[1])
            kind,content = msg['msg_type'],msg['content']
            if msg['parent_header'].get('msg_id') != cell: continue
            if kind == 'error': raise SystemExit('\n'.join(content['traceback']))
            if kind == 'status' and content['execution_state'] == 'idle': return printed, shown, size
            if kind == 'stream': printed += content['text']
            elif kind not in ('status', 'execute_input'): shown,size = shown+1,size+sum(map(len, parts))

def ratios(marks:list, block:int, turn:int) -> list[list[float]]: # of processor and of wall time, for each pair
    "Blocks with the view to the mean of their neighbours without. What follows the mark of a step, as its frame does, is of the same block."
    def took(b, i): return marks[(b+1)*block-1][i] - marks[b*block-1][i]
    blocks = [b for b in range(2, len(marks)//block-1) if b%2 == turn] # the first ones are not at full speed yet
    return [[2*took(b, i)/(took(b-1, i)+took(b+1, i)) for i in (0, 1)] for b in blocks]

def main():
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument('--threads', type=int, default=1, help='threads of the kernel')
    cli.add_argument('--rounds', type=int, default=3, help='runs in which view and nothing take turns')
    cli.add_argument('--quick', action='store_true', help='short runs; the page stays as it is')
    a = cli.parse_args()
    steps,block,rounds = (120, 10, 1) if a.quick else (1200, 50, a.rounds)
    with tempfile.TemporaryDirectory() as tmp:
        kernel = Kernel(tmp, a.threads)
        try:
            logged = steps if a.quick else 1000
            _,shown,size = kernel.run(f'%finetune --max_steps {logged} --logging_steps 1 --eval_steps 50 --save_strategy no -n messages;')
            runs = [(json.loads(kernel.run(PAIRED.format(steps=steps, block=block, turn=i%2))[0]), i%2) for i in range(rounds)]
        finally: kernel.close()
    pairs = sum((ratios(marks, block, turn) for marks,turn in runs), [])
    more = [100*(median(o[i] for o in pairs)-1) for i in (0, 1)]
    step = [1000*median(b[i]-a[i] for marks,_ in runs for a,b in zip(marks, marks[1:])) for i in (0, 1)]
    times = table(['', 'a step, ms', 'with the view, more by'], [[n, f'{step[i]:.1f}', f'{more[i]:+.2f}%'] for i,n in enumerate(('CPU time', 'wall time'))])
    said = f'{logged:,} logged steps, scored {logged//50} times: {shown} messages, {size/1e6:.2f} MB. The time is that of {len(pairs)} pairs of blocks of {block} steps.'
    bars = [bar(f'messages of {logged:,} logged steps, MB', size/1e6, 2, least=False), bar('CPU time of a step, with the view to without', 1+more[0]/100, 1.01, least=False, form='{:.4f}')]
    text = '\n\n'.join([described(a.threads, rounds), said, times, '\n'.join(bars)])
    print('\n' + text) if a.quick else publish('live_view', text)

if __name__ == '__main__': main()
