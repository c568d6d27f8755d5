import type { NetlinkSocket } from 'netlink'
import { decodeAttributes, type NetlinkRequests, openDiagnosticsSocket, requestOptions } from './netlink.ts'

/** The two ends of a TCP connection over IPv4. */
export interface TcpEnds {
  readonly local: { readonly address: string; readonly port: number }
  readonly remote: { readonly address: string; readonly port: number }
}

/** What became of the bytes that this end has sent. */
export interface TcpProgress {
  /** Those that the other end's kernel has acknowledged, since the connection began. */
  readonly acknowledgedBytes: number
  /** Those that it has not, and those that the kernel could not send yet. */
  readonly waitingBytes: number
}

/** Asks the kernel about connections of this network namespace; takes no privilege. */
export interface TcpInspector extends Disposable {
  /** Undefined when there is no such connection, or the kernel does not tell. */
  progressOf(ends: TcpEnds): Promise<TcpProgress | undefined>
}

const sockDiagByFamily = 20
const family = { ipv4: 2 }
const protocol = { tcp: 6 }
/** INET_DIAG_INFO: the attribute with the kernel's `struct tcp_info`. */
const infoAttribute = 2
const anyState = 0xffff_ffff
const noCookie = 0xffff_ffff

/** Where things are in `struct inet_diag_req_v2`, `struct inet_diag_msg` and `struct tcp_info`. */
const request = { bytes: 56, extensions: 2, states: 4, localPort: 8, remotePort: 10, local: 12, remote: 28, cookie: 48 }
const answer = { bytes: 72, waitingBytes: 60 }
const info = { acknowledgedBytes: 120 }

/** Opens the kernel's socket diagnostics; rejects where that cannot be. */
export async function openTcpInspector(): Promise<TcpInspector> {
  const netlink: NetlinkRequests<NetlinkSocket> = await openDiagnosticsSocket()
  return {
    async progressOf(ends) {
      try {
        const [messages] = await netlink.ask('look at a TCP connection', (socket) =>
          socket.request(sockDiagByFamily, encodeRequest(ends), { ...requestOptions, flags: 0 }),
        )
        return messages[0] && progressIn(messages[0].data)
      } catch {
        return undefined
      }
    },
    [Symbol.dispose]: () => netlink[Symbol.dispose](),
  }
}

function encodeRequest({ local, remote }: TcpEnds): Buffer {
  const data = Buffer.alloc(request.bytes)
  data[0] = family.ipv4
  data[1] = protocol.tcp
  data[request.extensions] = 1 << (infoAttribute - 1)
  data.writeUInt32LE(anyState, request.states)
  data.writeUInt16BE(local.port, request.localPort)
  data.writeUInt16BE(remote.port, request.remotePort)
  data.set(local.address.split('.').map(Number), request.local)
  data.set(remote.address.split('.').map(Number), request.remote)
  data.writeUInt32LE(noCookie, request.cookie)
  data.writeUInt32LE(noCookie, request.cookie + 4)
  return data
}

/** Undefined when the kernel is too old to count. */
export function progressIn(data: Buffer): TcpProgress | undefined {
  const tcpInfo = decodeAttributes(data.subarray(answer.bytes)).get(infoAttribute)
  if (tcpInfo === undefined || tcpInfo.length < info.acknowledgedBytes + 8) return undefined
  return {
    acknowledgedBytes: Number(tcpInfo.readBigUInt64LE(info.acknowledgedBytes)),
    waitingBytes: data.readUInt32LE(answer.waitingBytes),
  }
}
