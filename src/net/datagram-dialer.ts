import { assertDialable } from './assert-dialable.ts'
import { createUdpSocket } from './datagram.ts'
import { type DatagramChannel, type DatagramDialer, DialError, type DialTarget } from './dialer.ts'
import { dialErrorOf } from './direct-dialer.ts'

/** Sends datagrams from this node's own network stack, each channel from a socket that is connected to its target. */
export function createDirectDatagramDialer(): DatagramDialer {
  return {
    async dialDatagrams(target, signal) {
      signal.throwIfAborted()
      assertDialable(target, 'udp')
      return await openChannel(target)
    },
  }
}

/** Dials targets on this node, or on none in particular, with `direct` and all others with `remote`. */
export function createNodeAwareDatagramDialer(
  localNode: string,
  direct: DatagramDialer,
  remote: DatagramDialer,
): DatagramDialer {
  return {
    dialDatagrams(target, signal) {
      const isRemote = target.nodeName !== undefined && target.nodeName !== localNode
      return (isRemote ? remote : direct).dialDatagrams(target, signal)
    },
  }
}

function openChannel({ address, port }: DialTarget): Promise<DatagramChannel> {
  const socket = createUdpSocket(address)
  const closed = Promise.withResolvers<Error | undefined>()
  let listener: (message: Buffer) => void = () => {}
  let isOpen = true
  const close = (reason: Error | undefined) => {
    if (!isOpen) return
    isOpen = false
    socket.close()
    closed.resolve(reason)
  }
  const onError = (error: NodeJS.ErrnoException | null) => {
    // A full queue or a datagram that is too long loses that one; only an answer that nobody listens ends the channel.
    if (error?.code === 'ECONNREFUSED') close(new DialError('refused', `send ECONNREFUSED ${address}:${port}`))
  }
  socket.on('message', (message) => listener(message))
  return new Promise((resolve, reject) => {
    const onFailure = (error: Error) => {
      close(undefined)
      reject(dialErrorOf(error))
    }
    // A socket that gets no port or descriptor of its own is never connected, and says so here alone.
    socket.once('error', onFailure)
    socket.connect(port, address, (error?: Error) => {
      if (error) {
        onFailure(error)
        return
      }
      socket.off('error', onFailure)
      socket.on('error', onError)
      resolve({
        closed: closed.promise,
        send: (message) => void (isOpen && socket.send(message, onError)),
        onMessage: (next) => {
          listener = next
        },
        [Symbol.dispose]: () => close(undefined),
      })
    })
  })
}
