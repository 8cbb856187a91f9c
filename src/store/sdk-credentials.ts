/** Where the AWS SDK finds keys. Each provider is asked again whenever what it gave expires. */
import {
  fromContainerMetadata,
  fromIni,
  fromInstanceMetadata,
  fromNodeProviderChain,
} from '@aws-sdk/credential-providers';

export interface Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
  /** When to ask the provider again. */
  readonly expiration?: Date;
}

/** What the SDK's clients take as `credentials`. */
export type CredentialProvider = () => Promise<Credentials>;

/** A profile of the AWS configuration files. */
export function profileCredentials(profile: string): CredentialProvider {
  return fromIni({ profile });
}

/** The role of the EC2 instance. */
export function instanceCredentials(): CredentialProvider {
  return fromInstanceMetadata({ maxRetries: 3, timeout: 2000 });
}

/** The role of the ECS task. */
export function containerCredentials(): CredentialProvider {
  return fromContainerMetadata({ maxRetries: 3, timeout: 2000 });
}

/** Environment, files, web identity, instance metadata: whichever comes first. */
export function defaultCredentials(): CredentialProvider {
  return fromNodeProviderChain({ maxRetries: 1, timeout: 1000 });
}
