import type { DatagramChannel } from '../../net/index.ts'
import type { CountedFlow } from './flow-limits.ts'

/** The channel, which tells its place among the counted flows of each datagram, and is ended when it has to give way. */
export function countDatagrams(channel: DatagramChannel, flow: CountedFlow): DatagramChannel {
  flow.mayBeEnded(() => channel[Symbol.dispose]())
  return {
    closed: channel.closed,
    send(message) {
      flow.used()
      channel.send(message)
    },
    onMessage(listener) {
      channel.onMessage((message) => {
        flow.used()
        listener(message)
      })
    },
    [Symbol.dispose]: () => channel[Symbol.dispose](),
  }
}
