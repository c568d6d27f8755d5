/** Flows over links of our own, and over the libp2p streams that stand in for them. */
import { describeTunnel } from './tunnel-contract.ts'

describeTunnel('flows on links', { links: true })
describeTunnel('flows on libp2p streams', { links: false })
