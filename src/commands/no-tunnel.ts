import { DialError, type Dialer } from '../net/index.ts'

/** Takes the tunnel's place where it is off. */
export const noTunnel: Dialer = {
  dial({ nodeName, address, port }) {
    const text = `connect ${address}:${port} on ${nodeName}: the tunnel is off; set modules.edgeTunnel.enable: true`
    return Promise.reject(new DialError('no-path', text))
  },
}
