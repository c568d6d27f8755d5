/** A command that this product runs is not installed. */
export class MissingCommandError extends Error {
  override readonly name = 'MissingCommandError'
  readonly code = 'EDGEMESH_MISSING_COMMAND'
  readonly command: string
  readonly remedy: string

  constructor(command: string, options?: ErrorOptions) {
    const remedy = `install it: apt-get install ${debianPackages[command] ?? command}`
    super(`Cannot run ${command}: the command is not installed; ${remedy}`, options)
    this.command = command
    this.remedy = remedy
  }
}

/** Debian names of the packages, where they differ from the command. */
const debianPackages: Readonly<Record<string, string>> = {
  nft: 'nftables',
  ip: 'iproute2',
  'iptables-restore': 'iptables',
}

/** The kernel refuses the change to this user. */
export class NotPermittedError extends Error {
  override readonly name = 'NotPermittedError'
  readonly code = 'EDGEMESH_NOT_PERMITTED'
  readonly remedy = 'run edgemesh as root, or with the capability CAP_NET_ADMIN'

  constructor(action: string, options?: ErrorOptions) {
    super(`Cannot ${action}: permission denied; run edgemesh as root, or with the capability CAP_NET_ADMIN`, options)
  }
}

/** A command ran and failed; the message ends in what it said. */
export class CommandFailedError extends Error {
  override readonly name = 'CommandFailedError'
  readonly code = 'EDGEMESH_COMMAND_FAILED'
  readonly stderr: string

  constructor(command: string, exit: string, stderr: string) {
    super(`Cannot run ${command}: ${exit}: ${stderr.trim()}`)
    this.stderr = stderr
  }
}

/** nft does not take a ruleset; the kernel is as it was. */
export class RulesetRejectedError extends Error {
  override readonly name = 'RulesetRejectedError'
  readonly code = 'EDGEMESH_RULESET_REJECTED'
  /** What already exists has another shape: only a table made anew can hold the ruleset. */
  readonly isConflict: boolean

  constructor(complaint: string, line: string | undefined, options?: ErrorOptions) {
    super(`Cannot apply the ruleset: ${complaint}${line === undefined ? '' : `, in "${line}"`}`, options)
    this.isConflict = /File exists|Device or resource busy|already exists|mismatch/i.test(complaint)
  }
}

/** The bridge address is on a device that is not ours. */
export class AddressTakenError extends Error {
  override readonly name = 'AddressTakenError'
  readonly code = 'EDGEMESH_ADDRESS_TAKEN'
  readonly remedy: string

  constructor(address: string, wanted: string, holder: string) {
    const remedy = `remove it from ${holder} or choose another commonConfig.bridgeDeviceIP`
    super(`Cannot put ${address} on ${wanted}: device ${holder} holds that address; ${remedy}`)
    this.remedy = remedy
  }
}

/** The kernel answered a netlink request with an error. */
export class NetlinkError extends Error {
  override readonly name = 'NetlinkError'
  readonly code: string

  constructor(action: string, code: string, options?: ErrorOptions) {
    super(`Cannot ${action}: the kernel answers ${code}`, options)
    this.code = code
  }
}
