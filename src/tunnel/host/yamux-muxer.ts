import type { Stream, StreamMuxer, StreamMuxerFactory } from '@libp2p/interface'
import { type YamuxMuxerInit, yamux } from '@libp2p/yamux'
import { errorOfLibrary } from './library-error.ts'

/** A stream of yamux, which tells the far end of itself and of what it may send. */
type AnnouncedStream = Stream & { sendWindowUpdate(): void }

/** What the muxer makes of its streams; no part of its declared interface. */
interface StreamMaker {
  onCreateStream(options: unknown): AnnouncedStream
}

/**
 * Yamux whose streams fail where the library ends the process: it announces a new stream in a microtask of its own, and
 * when the connection is lost just then that throws where nobody can catch it.
 */
export function createYamux(init: YamuxMuxerInit): () => StreamMuxerFactory {
  const createFactory = yamux(init)
  return () => {
    const factory: StreamMuxerFactory = createFactory()
    const create = factory.createStreamMuxer.bind(factory)
    factory.createStreamMuxer = (connection) => guard(create(connection))
    return factory
  }
}

function guard(muxer: StreamMuxer): StreamMuxer {
  if (!isStreamMaker(muxer)) throw new Error('Cannot use this version of yamux: it makes streams in another way')
  const make = muxer.onCreateStream.bind(muxer)
  muxer.onCreateStream = (options) => {
    const stream = make(options)
    const announce = stream.sendWindowUpdate.bind(stream)
    stream.sendWindowUpdate = () => {
      try {
        announce()
      } catch (error) {
        stream.abort(errorOfLibrary(error))
      }
    }
    return stream
  }
  return muxer
}

function isStreamMaker(muxer: object): muxer is StreamMaker {
  return 'onCreateStream' in muxer && typeof muxer.onCreateStream === 'function'
}
