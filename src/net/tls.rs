//! The TLS of both ends: version 1.3, raw public keys, no authority.
//!
//! Source: RFC 8446, RFC 7250, RFC 8410 (encodings of ed25519 keys). In: our identity key, the
//! chain id, the list of keys. Out: configurations for dialing and listening.
//! Holds: a handshake ends well only between two keys that expect each other, on one chain.
//! Elsewhere: who is on the list (`membership`).
//!
//! The chain id and the lane travel as the protocol name (ALPN), so an end of another chain is
//! refused at its first message. Sessions are never resumed: a resumed one would not show its key.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName,
    Error, ServerConfig, SignatureScheme,
};
use zeroize::Zeroizing;

use super::{Lane, NetError, Refusal};
use crate::crypto::{Digest, PublicKey, SecretKey};

/// The version of frames and lanes; ends that differ in it do not talk.
const WIRE_VERSION: u8 = 1;

/// What stands before a seed in a PKCS#8 document of version 1.
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
/// What stands before the key in a SubjectPublicKeyInfo.
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// Our key and chain, ready for handshakes.
pub(super) struct Identity {
    public: PublicKey,
    chain: Digest,
    certified: Arc<CertifiedKey>,
    provider: Arc<CryptoProvider>,
}

impl Identity {
    /// Readies `secret`. Errors: [`NetError::Identity`].
    pub(super) fn new(secret: &SecretKey, chain: Digest) -> Result<Self, NetError> {
        let refused = |error: Error| NetError::Identity {
            reason: error.to_string(),
        };
        let mut document = Zeroizing::new([0; 48]);
        document[..16].copy_from_slice(&PKCS8_PREFIX);
        document[16..].copy_from_slice(secret.seed());
        let signer = ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(&document[..]))
            .map_err(refused)?;
        let public = secret.public();
        // A key of the simulated scheme has a public half that is no ed25519 key.
        let ours = spki(&public);
        if signer.public_key().is_none_or(|key| key.as_ref() != ours) {
            return Err(NetError::Identity {
                reason: "its public half is not an ed25519 key".into(),
            });
        }
        let certified = CertifiedKey::new(vec![ours.into()], signer);
        Ok(Self {
            public,
            chain,
            certified: Arc::new(certified),
            provider: Arc::new(ring::default_provider()),
        })
    }

    pub(super) fn public(&self) -> PublicKey {
        self.public
    }

    /// The protocol name of a lane.
    pub(super) fn protocol(&self, lane: Lane) -> Vec<u8> {
        format!("consortium/{WIRE_VERSION}/{}/{}", self.chain, lane.name()).into_bytes()
    }

    /// The lane that a handshake agreed on.
    pub(super) fn lane(&self, protocol: Option<&[u8]>) -> Option<Lane> {
        Lane::ALL
            .into_iter()
            .find(|lane| protocol == Some(self.protocol(*lane).as_slice()))
    }

    /// For dialing the holder of `key` on `lane`.
    pub(super) fn client(&self, key: PublicKey, lane: Lane) -> Arc<ClientConfig> {
        let verifier = Arc::new(Expected {
            allowed: Box::new(move |shown| *shown == key),
            provider: self.provider.clone(),
        });
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])
            .expect("the ring provider has suites of TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(
                self.certified.clone(),
            )));
        config.alpn_protocols = vec![self.protocol(lane)];
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        Arc::new(config)
    }

    /// For listening to the holders of `allowed` keys, on both lanes.
    pub(super) fn server(
        &self,
        allowed: impl Fn(&PublicKey) -> bool + Send + Sync + 'static,
    ) -> Arc<ServerConfig> {
        let verifier = Arc::new(Expected {
            allowed: Box::new(allowed),
            provider: self.provider.clone(),
        });
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])
            .expect("the ring provider has suites of TLS 1.3")
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(
                self.certified.clone(),
            )));
        config.alpn_protocols = Lane::ALL.map(|lane| self.protocol(lane)).to_vec();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Arc::new(config)
    }
}

/// The name that a dialer must give and that nobody reads: keys are pinned, and it is not sent.
pub(super) fn any_name() -> ServerName<'static> {
    ServerName::try_from("member").expect("a plain word is a name")
}

/// The key that the other end showed, if it is an ed25519 key.
pub(super) fn shown_key(shown: Option<&[CertificateDer<'_>]>) -> Option<PublicKey> {
    let [one] = shown? else { return None };
    let key = one.as_ref().strip_prefix(SPKI_PREFIX.as_slice())?;
    Some(PublicKey(Digest(key.try_into().ok()?)))
}

/// Why a handshake failed.
pub(super) fn reason(error: &std::io::Error) -> Refusal {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<Error>());
    // What the TLS library did not object to, the socket did.
    let Some(inner) = inner else {
        return Refusal::HungUp;
    };
    let stranger = CertificateError::ApplicationVerificationFailure;
    if *inner == Error::InvalidCertificate(stranger) {
        return Refusal::StrangerKey;
    }
    let chain = AlertDescription::NoApplicationProtocol;
    if matches!(inner, Error::NoApplicationProtocol) || *inner == Error::AlertReceived(chain) {
        return Refusal::WrongChain;
    }
    if *inner == Error::AlertReceived(AlertDescription::AccessDenied) {
        return Refusal::Denied;
    }
    Refusal::Malformed
}

fn spki(key: &PublicKey) -> Vec<u8> {
    [SPKI_PREFIX.as_slice(), key.as_bytes()].concat()
}

/// Believes the keys of a list, and nothing else.
struct Expected {
    allowed: Box<dyn Fn(&PublicKey) -> bool + Send + Sync>,
    provider: Arc<CryptoProvider>,
}

impl std::fmt::Debug for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("pinned keys")
    }
}

impl Expected {
    fn check(
        &self,
        shown: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
    ) -> Result<(), Error> {
        if !others.is_empty() {
            return Err(CertificateError::BadEncoding.into());
        }
        let key = shown_key(Some(std::slice::from_ref(shown)));
        let key = key.ok_or(CertificateError::BadEncoding)?;
        if (self.allowed)(&key) {
            Ok(())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature_with_raw_key(
            message,
            &SubjectPublicKeyInfoDer::from(shown.as_ref()),
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }
}

/// Version 1.2 is not compiled in; should it ever be, it is refused here.
fn refuse_old() -> Result<HandshakeSignatureValid, Error> {
    Err(Error::General("TLS 1.2 is not spoken".into()))
}

impl ServerCertVerifier for Expected {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(shown, others)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _shown: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        refuse_old()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, shown, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Expected {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(shown, others)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _shown: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        refuse_old()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, shown, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
