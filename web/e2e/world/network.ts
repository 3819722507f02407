/**
 * A network between one browser and the server that can be cut: a proxy that hands bytes on. While it is cut, running
 * connections are gone and new ones are refused.
 */
import { connect, createServer, type Socket } from "node:net";

export interface Network {
  /** For the browser's `--proxy-server`. */
  address: string;
  cut(): void;
  mend(): void;
  close(): void;
}

export async function network(origin: string): Promise<Network> {
  const { hostname, port } = new URL(origin);
  const sockets = new Set<Socket>();
  let isCut = false;
  const keep = (socket: Socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket)).on("error", () => socket.destroy());
  };
  const server = createServer((client) => {
    keep(client);
    if (isCut) return void client.destroy();
    client.once("data", (first) => {
      const upstream = connect(Number(port), hostname);
      keep(upstream);
      const isTunnel = first.subarray(0, 8).toString() === "CONNECT ";
      if (isTunnel) client.write("HTTP/1.1 200 Connection established\r\n\r\n");
      else upstream.write(first);
      client.pipe(upstream).pipe(client);
      client.on("close", () => upstream.destroy());
      upstream.on("close", () => client.destroy());
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the proxy has no port");
  const cut = () => {
    isCut = true;
    for (const socket of sockets) socket.destroy();
  };
  return {
    address: `http://127.0.0.1:${address.port}`,
    cut,
    mend: () => {
      isCut = false;
    },
    close: () => {
      cut();
      server.close();
    },
  };
}
