import { type DatagramDialer, DialError, type Dialer, type DialTarget } from '../net/index.ts'

/** Takes the tunnel's place where it is off. */
export const noTunnel: Dialer & DatagramDialer = {
  dial: (target) => Promise.reject(errorOf(target)),
  dialDatagrams: (target) => Promise.reject(errorOf(target)),
}

function errorOf({ nodeName, address, port }: DialTarget): DialError {
  const text = `connect ${address}:${port} on ${nodeName}: the tunnel is off; set modules.edgeTunnel.enable: true`
  return new DialError('no-path', text)
}
