import { readFile } from 'node:fs/promises'

/** Bytes and packets that an interface has taken in and sent since it was made, with their Ethernet headers. */
export interface Traffic {
  readonly received: number
  readonly sent: number
  readonly packets: number
}

/** What has crossed an interface, by default the uplink, of the network that a process runs in. */
export async function trafficOf(pid: number, link = 'eth0'): Promise<Traffic> {
  const lines = (await readFile(`/proc/${pid}/net/dev`, 'utf8')).split('\n')
  const fields = lines.map((line) => line.trim().split(/[\s:]+/)).find(([name]) => name === link)
  if (fields === undefined) throw new Error(`Process ${pid} has no interface ${link}`)
  return { received: Number(fields[1]), sent: Number(fields[9]), packets: Number(fields[2]) + Number(fields[10]) }
}
