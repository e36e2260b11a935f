"""A client of `qchat serve --compat json=127.0.0.1:9000`: python3 json_client.py 127.0.0.1 9000 ann
Then type: list | chat NAME TEXT | download NAME FILE | quit"""
import json, os, select, socket, sys

door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
typed = open(0, "rb", buffering=0)
shown, count = set(), 0

def send(**message): door.send(json.dumps(message).encode())

def receive(seconds):
    return json.loads(door.recv(65535)) if select.select([door], [], [], seconds)[0] else None

def take(message):
    """Acknowledges what nobody asked for, and shows it once, however often it comes."""
    if "rq" in message:
        send(type="ACK", rq=message["rq"], **({"chunk": message["chunk"]} if "chunk" in message else {}))
    which = (message.get("id", message.get("rq")), message.get("part"))
    if which not in shown and message["type"] not in ("PRESENCE", "HEY", "ACK", "FILE", "FILE-END"):
        print(f"{message['from']}: {message['text']}" if "text" in message else message, flush=True)
    shown.add(which)

def ask(**message):
    """Asks until something comes under our number. Ours are texts: the door's own are numbers."""
    global count
    count += 1
    for _ in range(20):
        send(rq=f"c{count}", **message)
        while answer := receive(1):
            if answer.get("rq") == f"c{count}":
                return answer
            take(answer)
    sys.exit("the door does not answer")

def download(owner, name):
    if os.path.exists(os.path.basename(name)): return print(f"{name} is here already", flush=True)
    answer, chunks, last = ask(type="DOWNLOAD", to=owner, filename=name), {}, None
    while last is None or len(chunks) <= last:
        if not answer or answer["type"] == "DOWNLOAD-ERROR":
            return print(answer["reason"] if answer else f"{name} did not come whole", flush=True)
        take(answer)
        if answer.get("rq") == f"c{count}":
            chunks[answer["chunk"]] = answer["text"]
            last = answer["chunk"] if answer["type"] == "FILE-END" else last
        answer = receive(30) if last is None or len(chunks) <= last else None
    with open(os.path.basename(name), "x", encoding="utf-8", newline="") as file:
        file.write("".join(chunks[number] for number in range(last + 1)))
    print(f"{name} is here", flush=True)

door.connect((sys.argv[1], int(sys.argv[2])))
first, again = ask(type="REGISTER", name=sys.argv[3]), {"type": "UPDATE-CONTACT", "name": sys.argv[3]}
print(ask(**again) if first.get("reason") == "this name is in use" else first, flush=True)  # ours, before a crash?
while ready := select.select([door, typed], [], [], 30)[0] or [None]:
    match typed.readline().decode().split(maxsplit=2) if typed in ready else ["hear", *ready]:
        case ["hear", None]: ask(type="HEY")
        case ["hear", _]: take(json.loads(door.recv(65535)))
        case ["list"]: print(*ask(type="GET_CLIENT_LIST").get("list", []), flush=True)
        case ["chat", to, text]: print(ask(type="CHAT", to=to, text=text.strip()), flush=True)
        case ["download", owner, name]: download(owner, name.strip())
        case ["quit"] | []: sys.exit(ask(type="LOGOUT")["type"] != "ACK")
